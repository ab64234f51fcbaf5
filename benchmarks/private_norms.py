"""Do norms that know sensors and budget help sub-networks? Private gains and biases beside constant ones.

    python benchmarks/private_norms.py FILE ... --runs FOLDER        about four minutes a training on one core

Every norm's gain and bias get an addition of rank 8, a function of the sensors present and of the share of
work removed, which would be folded in when the weights are sliced and cost nothing. The control has the same
weights and an input that never changes; "plain" is the ordinary model. All take the same steps. "Strong" ones
learn their additions ten times as fast, in case the usual pace is too slow for them.
Kept if the treatment is half a point better than the control in mean over the runs and beyond their spread.
Appends to docs/results/private_norms.json.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

import torch
from people import Results, Run, as_it_is, judge, options, plainly
from torch import Tensor, nn
from torch.nn import functional as F

from sentryfuse.model import Selection
from sentryfuse.model.config import ModelConfig
from sentryfuse.model.pretrained import SentryModel
from sentryfuse.planning.cost import count
from sentryfuse.types import check_present

RANK, STRONG = 8, 10.0
RATIOS = (0.0, 0.8, 0.9, 0.95)


class PrivateNorm(nn.LayerNorm):
    """A norm whose gain and bias move with what it is given.

    Args:
        norm: takes its place, and starts as it.
        n_inputs: length of what it is given.
        strength: of the addition; with Adam, how much faster than other weights it is learned.
    """

    def __init__(self, norm: nn.LayerNorm, n_inputs: int, strength: float) -> None:
        super().__init__(list(norm.normalized_shape))
        self.strength = strength
        self.load_state_dict(norm.state_dict())
        self.code = nn.Linear(n_inputs, RANK)
        self.change = nn.Linear(RANK, 2 * norm.normalized_shape[0], bias=False)
        nn.init.zeros_(self.change.weight)
        self.given = torch.zeros(n_inputs)

    def forward(self, x: Tensor) -> Tensor:
        """As every norm."""
        change = self.strength * self.change(F.silu(self.code(self.given)))
        gain, bias = change.chunk(2)
        return F.layer_norm(x, self.normalized_shape, self.weight + gain, self.bias + bias, self.eps)


class PrivateModel(SentryModel):
    """A model with private norms.

    Args:
        config: of the ordinary model.
        constant: the norms are given the same whatever is present and left.
        strength: of what they add.
    """

    def __init__(self, config: ModelConfig, *, constant: bool, strength: float) -> None:
        super().__init__(config)
        self.constant = constant
        self.work: dict[tuple[object, ...], float] = {}
        n_inputs = len(self.names) + 1
        for path, module in list(self.backbone.named_modules()):
            if type(module) is nn.LayerNorm:
                parent, _, name = path.rpartition(".")
                setattr(self.backbone.get_submodule(parent), name, PrivateNorm(module, n_inputs, strength))

    def forward(
        self,
        windows: Mapping[str, Tensor],
        present: Iterable[str] | None = None,
        *,
        select: Selection | None = None,
    ) -> Tensor:
        """As every model; the norms learn what is present and how much has been cut."""
        names = check_present(present, self.names)
        removed = 0.5 if self.constant else self.removed(names, select)
        on = self.names if self.constant else names
        given = torch.tensor([*(float(name in on) for name in self.names), removed])
        for module in self.modules():
            if isinstance(module, PrivateNorm):
                module.given = given
        logits: Tensor = super().forward(windows, names, select=select)
        return logits

    def removed(self, names: tuple[str, ...], select: Selection | None) -> float:
        """Share of the prunable work that a selection leaves out."""
        if select is None or not select.kept:
            return 0.0
        kept = {name: tuple(few.tolist()) for name, few in select.kept.items()}
        key = (names, *kept.items())
        if key not in self.work:
            if len(self.work) > 500:
                self.work.clear()
            whole = count(self.layout, names).prunable_macs
            self.work[key] = 1 - count(self.layout, names, kept=kept).prunable_macs / whole
        return self.work[key]


def private(model: SentryModel, *, constant: bool, strength: float = 1.0) -> SentryModel:
    """The same model with private norms; the other weights stay as they were drawn."""
    with torch.random.fork_rng():
        made = PrivateModel(model.config, constant=constant, strength=strength)
    weights = made.tensors()
    made.load_tensors({**weights, **model.tensors()})
    return made


WAYS = {
    "plain": as_it_is,
    "constant": partial(private, constant=True),
    "private": partial(private, constant=False),
    "strong constant": partial(private, constant=True, strength=STRONG),
    "strong private": partial(private, constant=False, strength=STRONG),
}


def main() -> None:
    """Train and judge what is not there yet."""
    asked = options(__doc__, "private_norms.json")
    results = Results(asked.out, {"rank": RANK, "strong": STRONG})
    for path in asked.data:
        for number in asked.run or (0, 1):
            run = Run(path, number, asked.runs, asked.epochs)
            for way, build in WAYS.items():
                key = {**run.key, "way": way}
                if not results.has(**key):
                    results.add(judge(run, run.model(way, build, plainly), RATIOS), **key)


if __name__ == "__main__":
    main()
