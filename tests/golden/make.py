"""Write the golden bundle of this format version and the answers torch gave: `python -m tests.golden.make`.

Run it once per format version and keep the files of older ones: a later version must read them and
give the same answers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sentryfuse.bundle import load_bundle
from sentryfuse.export import export_bundle
from sentryfuse.model import Encoder
from sentryfuse.model.pretrained import SentryModel
from sentryfuse.pruning.evaluation import torch_answer
from sentryfuse.types import Budget
from tests.model.encoders import encoder
from tests.tiny import GOLDEN, SENSOR_SETS, tiny_batch, tiny_model, uneven_widths


def tiny() -> SentryModel:
    """Uneven widths, both attention cores."""
    return tiny_model("sparse", widths=uneven_widths("sparse"))


def with_encoders() -> SentryModel:
    """Two sensors with encoders of somebody's own."""
    model = tiny_model("flexmoe").with_encoders(
        {"acc": encoder("attends", 64, 3), "temp": Encoder(encoder("cnn", 13, 1), physical=True)}
    )
    return model.eval()


MODELS = {"tiny-v3": tiny, "encoder-v3": with_encoders}


def main() -> None:
    """Write the bundles and answers of those that are not there."""
    for name, make in MODELS.items():
        file = GOLDEN / f"{name}.bundle"
        if file.exists():
            continue
        model = make()
        print(name, export_bundle(model, file))
        bundle = load_bundle(file)
        windows = tiny_batch(4, seed=11)
        answers = {}
        for present in SENSOR_SETS:
            for ratio in (0.0, 0.3, 0.9, 1.0):
                plan = bundle.plan(present, Budget(ratio=ratio))
                key = f"answer|{'+'.join(present)}|{ratio}|{plan.plan_id}|{plan.cost.macs}"
                answers[key] = torch_answer(model)(windows, plan)
        arrays: dict[str, Any] = {f"window|{sensor}": x for sensor, x in windows.items()}
        np.savez_compressed(GOLDEN / f"{name}.npz", **(arrays | answers))


if __name__ == "__main__":
    main()
