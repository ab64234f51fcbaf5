"""Lines of a study that was never run: scores follow from a formula, so every mean is known."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Line = dict[str, Any]
BACKBONES = ("maestro", "flexmoe", "mult")
DATASETS = ("dsads", "wesad_wrist", "physionet2012")
RATIOS = (0.2, 0.4, 0.6, 0.8)
RATES = (0.0, 0.2, 0.4, 0.6)
SEEDS = (0, 1, 2)
AUROC = "physionet2012"
N_WINDOWS = {"dsads": 400, "wesad_wrist": 300, "physionet2012": 500}

# method -> scorer, sensors, allocation, repair
METHODS = {
    "gate/aware": ("gate", "aware", "global", "none"),
    "gate/blind": ("gate", "blind", "global", "none"),
    "gate-uniform/aware": ("gate", "aware", "uniform", "none"),
    "gate+ridge/aware": ("gate", "aware", "global", "ridge"),
    "magnitude/aware": ("magnitude", "aware", "global", "none"),
    "magnitude/blind": ("magnitude", "blind", "global", "none"),
    "magnitude-uniform/blind": ("magnitude", "blind", "uniform", "none"),
    "taylor/aware": ("taylor", "aware", "global", "none"),
    "magnitude+ridge/aware": ("magnitude", "aware", "global", "ridge"),
    "taylor+bias/aware": ("taylor", "aware", "global", "bias"),
    "taylor-oracle/aware": ("taylor-oracle", "aware", "global", "none"),
}
TRAININGS = ("plain", "gate", "static")


def noise(*parts: object) -> float:
    """A number in -1..1 that looks random and is the same everywhere."""
    text = "|".join(map(str, parts))
    value = 0.0
    for letter in text:
        value = (value * 31.0 + ord(letter)) % 9973.0
    return math.sin(value)


def score(line: Mapping[str, Any]) -> float:
    """Ours on its own training loses little, others more the more is pruned and missing."""
    scorer, sensors = line["scorer"], line["sensors"]
    loss = {"gate": 0.05, "magnitude": 0.3, "taylor": 0.25, "taylor-oracle": 0.02}.get(scorer or "", 0.0)
    loss *= 1.0 if line["training"] == "plain" else 0.4 if scorer != "gate" else 0.3
    blind = 0.2 * line["missing_rate"] if sensors == "blind" else 0.0
    level = 0.9 - 0.1 * line["missing_rate"] - loss * line["ratio"] ** 2 - blind
    return round(level + 0.02 * noise(*(line[key] for key in IDENTITY)), 6)


IDENTITY = (
    "backbone", "dataset", "seed", "fold", "training", "method", "protocol", "ratio", "missing_rate",
)  # fmt: skip


def make_lines(
    *,
    backbones: Iterable[str] = BACKBONES,
    datasets: Iterable[str] = DATASETS,
    trainings: Sequence[str] = TRAININGS,
    methods: Mapping[str, tuple[str, str, str, str]] = METHODS,
    ratios: Sequence[float] = RATIOS,
    rates: Sequence[float] = RATES,
    seeds: Sequence[int] = SEEDS,
    protocols: Sequence[str] = ("present", "full"),
    scored: Callable[[Mapping[str, Any]], float] = score,
) -> list[Line]:
    """Every line of a study; blind plans and complete sensors stand under one protocol only."""
    lines = []
    for backbone in backbones:
        for dataset in datasets:
            for seed in seeds:
                run = {
                    "backbone": backbone,
                    "dataset": dataset,
                    "seed": 0 if dataset == "wesad_wrist" else seed,
                    "fold": f"{seed}/5" if dataset == "wesad_wrist" else None,
                }
                for training in trainings:
                    for rate in rates:
                        dense: tuple[str | None, ...] = (None,) * 4
                        cases = [("dense", dense, "present", 0.0)]
                        for method, parts in methods.items():
                            same = parts[1] == "blind" or rate == 0
                            cases += [
                                (method, parts, protocol, ratio)
                                for protocol in (protocols[:1] if same else protocols)
                                for ratio in ratios
                            ]
                        for method, (scorer, sensors, allocation, repair), protocol, ratio in cases:
                            line: Line = {
                                **run,
                                "training": training,
                                "method": method,
                                "scorer": scorer,
                                "sensors": sensors,
                                "allocation": allocation,
                                "repair": repair,
                                "protocol": protocol,
                                "ratio": ratio,
                                "missing_rate": rate,
                            }
                            lines.append(finish(line, scored(line)))
    return lines


def finish(line: Line, value: float) -> Line:
    """Give a line its key and its numbers."""
    two = line["dataset"] == AUROC
    return {
        "key": "-".join(str(line[key]).replace("/", ".") for key in IDENTITY),
        **line,
        "accuracy": 0.5 if two else value,  # of no use where AUROC is there
        "macro_f1": 0.4,
        "auroc": value if two else None,
        "macs": 1000,
        "params": 100,
        "n_windows": N_WINDOWS[line["dataset"]],
    }


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> Path:
    """One JSON object per line; compressed where the name says so."""
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
    return path


def value_of(line: Mapping[str, Any]) -> float:
    """The score that counts."""
    return float(line["auroc"] if line["auroc"] is not None else line["accuracy"])


def with_answers(folder: Path, lines: Sequence[Line], *, seed: int = 0) -> list[Line]:
    """Write answers for every line, one file per training, and return lines that are scored on them."""
    from sentryfuse.data.metrics import scores

    rng = np.random.default_rng(seed)
    truth = {name: rng.integers(0, 2 if name == AUROC else 3, size=n) for name, n in N_WINDOWS.items()}
    files: dict[str, dict[str, Any]] = {}
    made = []
    for line in lines:
        y = truth[line["dataset"]]
        n_classes = int(y.max()) + 1
        table = rng.random((len(y), n_classes))
        table[np.arange(len(y)), y] += value_of(line) - 0.4
        table /= table.sum(axis=1, keepdims=True)
        found = scores(y, table)
        made.append({**line, **found})
        name = "-".join(str(line[key]).replace("/", ".") for key in IDENTITY[:5])
        arrays = files.setdefault(name, {"windows": np.arange(len(y)), "y": y})
        arrays[line["key"]] = table.astype(np.float32)
    (folder / "answers").mkdir(parents=True)
    for name, arrays in files.items():
        np.savez(folder / "answers" / f"{name}.npz", **arrays)
    return made
