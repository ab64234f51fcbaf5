"""Write the golden bundle of this format version and the answers torch gave: `python -m tests.golden.make`.

Run it once per format version and keep the files of older ones: a later version must read them and
give the same answers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sentryfuse.bundle import load_bundle
from sentryfuse.export import export_bundle
from sentryfuse.pruning.evaluation import torch_answer
from sentryfuse.types import Budget
from tests.tiny import GOLDEN, SENSOR_SETS, tiny_batch, tiny_model, uneven_widths


def main() -> None:
    """Write `tiny-v3.bundle` and `tiny-v3.npz`."""
    model = tiny_model("sparse", widths=uneven_widths("sparse"))
    print(export_bundle(model, GOLDEN / "tiny-v3.bundle"))
    bundle = load_bundle(GOLDEN / "tiny-v3.bundle")
    windows = tiny_batch(4, seed=11)
    answers = {}
    for present in SENSOR_SETS:
        for ratio in (0.0, 0.3, 0.9, 1.0):
            plan = bundle.plan(present, Budget(ratio=ratio))
            key = f"answer|{'+'.join(present)}|{ratio}|{plan.plan_id}|{plan.cost.macs}"
            answers[key] = torch_answer(model)(windows, plan)
    arrays: dict[str, Any] = {f"window|{name}": x for name, x in windows.items()}
    np.savez_compressed(GOLDEN / "tiny-v3.npz", **(arrays | answers))


if __name__ == "__main__":
    main()
