"""Put tables and the figure made from result files into README.md and docs, between their markers.

python benchmarks/readme.py            rewrite
python benchmarks/readme.py --check    only say whether the pages are what the results give
python benchmarks/readme.py --page docs/reliability.md    rewrite one page
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from statistics import fmean, stdev

from tables import accuracy, conditioning, reliability, serving, speed, study
from tables.rows import RATIOS, RESULTS, results, scores

from sentryfuse.files import write_text

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # parts of the campaign are modules, which make their own tables
TABLES = {
    "answers": accuracy.answers_table,
    "range": accuracy.range_table,
    "folds": accuracy.folds_table,
    "ways": accuracy.ways_table,
    "first_windows": accuracy.first_windows_table,
    "pruning": accuracy.pruning_table,
    "sets": accuracy.sets_table,
    "backbones": accuracy.backbones_table,
    "dense": accuracy.dense_table,
    "conversion": accuracy.conversion_table,
    "attention": speed.attention_table,
    "core": speed.core_table,
    "speed": speed.speed_table,
    "switching": speed.switching_table,
    "absence": speed.absence_table,
    "size": speed.size_table,
    "serving": serving.serving_table,
    "study": study.study_table,
    "finetuned": study.finetuned_table,
    "cells": study.cells_table,
    "norms": conditioning.norms_table,
    "norms_verdict": conditioning.norms_verdict,
    "quality": conditioning.quality_table,
    "quality_verdict": conditioning.quality_verdict,
    "spoilt_verdict": conditioning.spoilt_verdict,
    "tokens": conditioning.tokens_table,
    "tokens_verdict": conditioning.tokens_verdict,
    **reliability.TABLES,
}
PAGES = ("README.md", "docs/answers.md", "docs/conditioning.md", "docs/serve.md", "docs/reliability.md")


def main() -> int:
    """Rewrite or check; exit code 1 when --check finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--page", choices=PAGES, help="only this page")
    options = parser.parse_args()
    names = PAGES if options.page is None else (options.page,)
    pages = {ROOT / name: (ROOT / name).read_text() for name in names}
    if options.check:
        return int(any(filled(text) != text for text in pages.values()))
    for page, text in pages.items():
        write_text(page, filled(text))
    if "README.md" in names:
        draw(RESULTS / "accuracy.svg")
    return 0


def filled(text: str) -> str:
    """A page with every marked table made again."""
    for name, make in TABLES.items():
        if f"<!-- {name} -->" not in text:
            continue  # some tables take long to make
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        made = make().replace("\\", "\\\\")
        text = pattern.sub(rf"\g<1>{made}\n\g<2>" if made else r"\g<1>\g<2>", text)
    return text


def draw(path: Path) -> None:
    """The README's figure: accuracy against pruning ratio on dsads."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "sentryfuse", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8, 2.9), sharey=True, layout="constrained")
    ways = [
        ("gate", "gate", "sentryfuse", "#0072b2"),
        ("none", "taylor", "plain training, Taylor", "#d55e00"),
        ("none", "magnitude", "plain training, magnitude", "#999999"),
    ]
    for elastic, scorer, label, colour in ways:
        runs = results("dsads", elastic)
        if not runs:
            continue
        points = [scores(runs, scorer=scorer, ratio=r, metric="accuracy") for r in RATIOS]
        for side, axis in enumerate(axes):
            means = [100 * fmean(point[side]) for point in points]
            spread = [100 * stdev(p[side]) if len(p[side]) > 1 else 0.0 for p in points]
            axis.errorbar([100 * r for r in RATIOS], means, spread, label=label, color=colour, marker="o")
    for axis, title in zip(axes, ("all sensors", "one sensor missing (mean of five)"), strict=True):
        axis.set(title=title, xlabel="pruned [% of prunable MACs]", ylim=(50, 100))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("accuracy, unseen people [%]")
    axes[0].legend(loc="lower left", frameon=False)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    sys.exit(main())
