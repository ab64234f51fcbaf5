"""From the full network to the readout: ours beside other ways to reach the same budget.

    python benchmarks/ranges.py --data FILE            eight trainings, an hour and a half on one core

Four ways, each with a readout of its own of the same kind: sub-networks of one training ranked by the
gate ("ours"), of one elastic training ranked by the size of the weights ("elastic, static"), of one training
without elastic steps, ranked by the gate ("plain"), and a small network trained for each budget ("trained
small": fewer heads, channels and layers). Test people, all sensors and the mean over each one missing. A
killed run goes on where it stopped. Appends to docs/results/ranges.json; `python benchmarks/readme.py` makes
the table.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

import sentryfuse as sf
from sentryfuse.data import leave_one_out
from sentryfuse.files import read_json, write_json
from sentryfuse.machine import machine
from sentryfuse.planning.cost import count

ROOT = Path(__file__).resolve().parent.parent
RATIOS = (0.0, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98, 1.0)
TRAINED = (0.6, 0.8, 0.9, 0.95)  # budgets that get a network of their own
WAYS = {"ours": ("gate", "gate"), "elastic, static": ("static", "magnitude"), "plain": ("none", "gate")}


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="an npz file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "ranges", help="where models are kept")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "ranges.json")
    options = parser.parse_args()
    windows = sf.load_windows(options.data)
    found = read_json(options.out) if options.out.is_file() else {"rows": []}
    have = {(row["dataset"], row["seed"], row["way"], row["ratio"]) for row in found["rows"]}

    def keep(way: str, rows: list[dict[str, Any]]) -> None:
        own = {"dataset": windows.name, "seed": options.seed, "way": way, **machine()}
        found["rows"] += [own | row for row in rows]
        write_json(options.out, found)

    for way, (elastic, scorer) in WAYS.items():
        if (windows.name, options.seed, way, RATIOS[-1]) not in have:
            print(f"== {way}", flush=True)
            folder = options.runs / f"{windows.name}-{elastic}-{options.seed}"
            model = trained(folder, windows, options.seed, elastic, {})
            keep(way, scores(model, windows, RATIOS, scorer))
    dense = count(fresh(windows, {}).layout).prunable_macs
    for ratio in TRAINED:
        if (windows.name, options.seed, "trained small", ratio) not in have:
            print(f"== trained small, r = {ratio}", flush=True)
            shape = largest(windows, (1 - ratio) * dense)
            folder = options.runs / f"{windows.name}-small-{ratio}-{options.seed}"
            model = trained(folder, windows, options.seed, "none", shape)
            (row,) = scores(model, windows, (0.0,), "gate")
            keep("trained small", [row | {"ratio": ratio, "shape": shape}])


def fresh(windows: sf.Windows, shape: Mapping[str, int]) -> sf.SentryModel:
    """An untrained model of a recording."""
    return sf.create_model("maestro", modalities=windows.modalities, classes=windows.classes, options=shape)


def trained(
    folder: Path, windows: sf.Windows, seed: int, elastic: str, shape: Mapping[str, int]
) -> sf.SentryModel:
    """A trained model, from its folder where it is there."""
    if not folder.is_dir():
        torch.manual_seed(seed)
        model = fresh(windows, shape)
        folder.parent.mkdir(parents=True, exist_ok=True)
        state = folder.with_suffix(".state")
        sf.train(model, windows, settings=sf.TrainSettings(seed=seed, elastic=elastic), state_file=state)
        model.save_pretrained(folder)
    return sf.from_pretrained(folder)


def largest(windows: sf.Windows, prunable_macs: float) -> dict[str, int]:
    """Sizes of a network within a budget: heads and channels fewer by about the same share, then layers."""
    found: list[tuple[float, dict[str, int]]] = []
    for layers in (2, 1):
        for heads in (8, 6, 4, 2, 1):
            for d_ff in range(256, 0, -8):
                shape = {
                    "encoder_layers": layers,
                    "fusion_layers": layers,
                    "n_heads": heads,
                    "n_kv_heads": min(2, heads),
                    "d_ff": d_ff,
                }
                if count(fresh(windows, shape).layout).prunable_macs <= prunable_macs:
                    found.append((abs(math.log(heads / 8 / (d_ff / 256))), shape))
                    break
    if not found:
        raise SystemExit(f"no network has {prunable_macs:.0f} prunable MAC or fewer")
    return min(found, key=lambda one: one[0])[1]


def scores(
    model: sf.SentryModel, windows: sf.Windows, ratios: tuple[float, ...], scorer: str
) -> list[dict[str, Any]]:
    """All sensors and the mean over each one missing, a row for each ratio."""
    rows = sf.evaluate(
        model,
        windows,
        present=[None, *leave_one_out(windows.names)],
        ratios=ratios,
        scorers=(scorer,),
    )
    found = []
    for ratio in ratios:
        own = [row for row in rows if row["ratio"] == ratio]
        full = [row for row in own if len(row["present"]) == len(windows.names)]
        fewer = [row for row in own if len(row["present"]) < len(windows.names)]
        found.append(
            {
                "ratio": ratio,
                "macs": full[0]["macs"],
                **{key: full[0][key] for key in ("accuracy", "macro_f1", "auroc")},
                "one_missing": {
                    key: None if fewer[0][key] is None else fmean(row[key] for row in fewer)
                    for key in ("accuracy", "macro_f1", "auroc")
                },
            }
        )
    return found


if __name__ == "__main__":
    main()
