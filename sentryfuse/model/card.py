"""The README of a model's folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sentryfuse.readout.worth import worth

if TYPE_CHECKING:
    from sentryfuse.model.config import ModelConfig
    from sentryfuse.model.pretrained import SentryModel


def model_card(model: SentryModel) -> str:
    """A short README for the folder of a model, made from its configuration."""
    config = model.config
    rows = "\n".join(f"| {m.name} | {m.n_channels} | {m.rate_hz:g} | {m.length} |" for m in config.modalities)
    about = json.dumps(config.about, indent=1) if config.about else "{}"
    alone = None if model.mixture is None else model.mixture.readout.cost(model.names).macs
    said = worth(config.about, alone)
    who = "" if said is None else f"\nWho answers: {said}.\n"
    return f"""# {config.backbone} ({config.preset}), sentryfuse

{_asked(config)}: {", ".join(config.classes)}.
{sum(t.numel() for t in model.tensors().values()):,} weights, safetensors, no pickle. Normalisation: \
{config.normalise} statistics, inside.
{who}
| sensor | channels | rate [Hz] | steps per window |
| --- | --- | --- | --- |
{rows}

```python
import sentryfuse as sf
model = sf.from_pretrained("<this folder>")
```

```json
{about}
```
"""


def _asked(config: ModelConfig) -> str:
    """What the model is asked for."""
    n, target = len(config.classes), config.target
    if target.of_classes:
        return f"{n} classes"
    if target.task == "multilabel":
        return f"{n} labels, any of them at once"
    return f"{n} number{'s' if n > 1 else ''}" + (f" in {target.unit}" if target.unit else "")
