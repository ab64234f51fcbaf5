"""What every process of `test_distributed.py` runs; also what it is compared with.

torchrun --nproc-per-node 3 tests/training/together.py FOLDER
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from sentryfuse.model.pretrained import SentryModel
from sentryfuse.training import TrainSettings, fine_tune, train
from sentryfuse.training.distributed import process_group
from sentryfuse.training.steps import Run
from tests.model.encoders import encoder
from tests.tiny import tiny_model, tiny_windows

WINDOWS = tiny_windows(131)  # batches that no number of processes divides, one of them of a few windows
SETTINGS = TrainSettings(epochs=2, batch_size=17, seed=3, warm_up=0.2, gate_until=0.7, readout="none")
CASES: Mapping[str, tuple[str, TrainSettings]] = {
    "maestro": ("sparse", SETTINGS),
    "flexmoe": ("flexmoe", replace(SETTINGS, batch_size=40)),  # whose balance is a property of whole batches
    "taken": ("taken", replace(SETTINGS, elastic="taylor")),
    "mult": ("mult", replace(SETTINGS, elastic="static", mixup=0.4)),
    "plain": ("small", replace(SETTINGS, elastic="none", hide=0.0)),
}
History = list[dict[str, Any]]


class PowerCut(Exception):
    pass


def trained(name: str) -> tuple[SentryModel, History]:
    case, settings = CASES[name]
    model = tiny_model(case, seed=1)
    return model, train(model, WINDOWS, settings=settings)


def normed() -> tuple[SentryModel, History]:
    """With batch norms inside an encoder of one's own, which see the windows of their process alone."""
    model = tiny_model("small", seed=1).with_encoders({"acc": encoder("cnn", 64, 3)})
    return model, train(model, WINDOWS, settings=SETTINGS)


def tuned() -> tuple[SentryModel, History]:
    model = tiny_model("flexmoe", seed=1)
    return model, fine_tune(model, WINDOWS, epochs=1, settings=SETTINGS)


def resumed(state: Path) -> tuple[SentryModel, History]:
    """Stopped in the second epoch by a power cut, and trained again."""
    step = Run._step

    def step_or_stop(self: Any, *args: Any) -> dict[str, float]:
        if self.step > self.steps_per_epoch:
            raise PowerCut
        return step(self, *args)

    Run._step = step_or_stop  # type: ignore[assignment, method-assign]
    model = tiny_model("small", seed=1)
    try:
        train(model, WINDOWS, settings=SETTINGS, state_file=state)
    except PowerCut:
        Run._step = step  # type: ignore[method-assign]
    return model, train(model, WINDOWS, settings=SETTINGS, state_file=state)


def results(folder: Path) -> Mapping[str, Callable[[], tuple[SentryModel, History]]]:
    made = {name: lambda name=name: trained(name) for name in CASES}
    return {
        **made,
        "normed": normed,
        "tuned": tuned,
        "resumed": lambda: resumed(folder / "state.safetensors"),
    }


def comparable(model: SentryModel) -> dict[str, Tensor]:
    """Weights that mean something.

    A key bias adds the same to all logits of a query, and softmax does not see it. Nor does it see queries
    and keys where there is one token to attend to, as in what "age" says; nor does a batch norm see the bias
    of the convolution before it (its running mean does). Their gradient is rounding, which Adam makes as
    large as any other.
    """
    rounding = re.compile(r"attn\.k\.bias$|\bage\b.*\.attn\.[qk]\.|own\.\d+_(conv_bias|norm_running_mean)$")
    return {name: t for name, t in model.tensors().items() if not rounding.search(name)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    with process_group("cpu") as group:
        for name, make in results(folder).items():
            model, history = make()
            save_file(comparable(model), folder / f"{name}.{group.rank}.safetensors")
            (folder / f"{name}.{group.rank}.json").write_text(json.dumps(history), encoding="utf-8")
