"""Gains: every aggregate against a small calculation of its own, straight from the lines."""

from __future__ import annotations

import json
from collections import defaultdict
from statistics import fmean
from typing import Any

import pytest

from sentryfuse.errors import ConfigError
from sentryfuse.study.report import read_study, summarize_study
from tests.report.study_lines import (
    BACKBONES,
    DATASETS,
    METHODS,
    RATES,
    RATIOS,
    make_lines,
    noise,
    score,
    value_of,
    write_lines,
)

pytestmark = pytest.mark.device

REGIONS = {
    "all cells": lambda r, m: True,
    "r >= 0.4": lambda r, m: r >= 0.4,
    "r >= 0.6 and missing >= 0.4": lambda r, m: r >= 0.6 and m >= 0.4,
    "missing >= 0.4": lambda r, m: m >= 0.4,
}
BASELINES = {
    name for name, parts in METHODS.items() if parts[0] in ("magnitude", "taylor")
}  # not the gate's, not the oracle's


@pytest.fixture(scope="module")
def lines():
    return make_lines()


@pytest.fixture(scope="module")
def summary(lines, tmp_path_factory):
    return summed(tmp_path_factory.mktemp("study"), lines)


def summed(folder, lines, **more):
    return summarize_study(read_study([write_lines(folder / "lines.jsonl", lines)]), **more)


def cell_means(lines, protocol):
    """(training, method) -> cell -> mean over seeds, of lines that hold under the protocol."""
    found: dict[Any, dict[Any, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        if line["protocol"] == protocol or line["sensors"] == "blind" or line["missing_rate"] == 0:
            cell = tuple(line[key] for key in ("backbone", "dataset", "ratio", "missing_rate"))
            found[line["training"], line["method"]][cell].append(value_of(line))
    return {name: {c: fmean(v) for c, v in cells.items()} for name, cells in found.items()}


def expected_systems(name):
    """Ours and the baselines of a comparison, written down by hand."""
    plain = {("plain", method) for method in BASELINES}
    if name == "A":
        return ("plain", "gate/aware"), {("plain", "magnitude/aware"), ("plain", "taylor/aware")}
    if name == "headline-blind":
        return ("gate", "gate/aware"), {("plain", "magnitude/blind"), ("plain", "magnitude-uniform/blind")}
    if name == "headline-no-ridge":
        return ("gate", "gate/aware"), plain - {("plain", "magnitude+ridge/aware")}
    everywhere = {(training, method) for training in ("plain", "gate", "static") for method in BASELINES}
    return ("gate", "gate/aware"), plain if name == "headline" else everywhere


@pytest.mark.parametrize("protocol", ["present", "full"])
@pytest.mark.parametrize("name", ["headline", "headline-blind", "headline-no-ridge", "A", "B"])
def test_every_aggregate_is_what_the_lines_say(lines, summary, name, protocol):
    item = next(c for c in summary["comparisons"] if (c["name"], c["protocol"]) == (name, protocol))
    means = cell_means(lines, protocol)
    ours, others = expected_systems(name)
    assert set(item["baselines"]) == {f"{method} on {training}" for training, method in others}
    assert (item["n_present"], item["n_whole"], item["n_cells"]) == (144, 144, 144)
    best = {cell: max(means[other][cell] for other in others) for cell in means[ours]}
    single = max(others, key=lambda other: fmean(means[other].values()))
    assert item["best_single"] == f"{single[1]} on {single[0]}"
    for row in item["regions"]:
        cells = [c for c in means[ours] if REGIONS[row["cells"]](c[2], c[3])]
        gains = [100 * (means[ours][c] - best[c]) for c in cells]
        over_single = [100 * (means[ours][c] - means[single][c]) for c in cells]
        assert row["n_cells"] == len(cells)
        assert row["ours"] == pytest.approx(100 * fmean(means[ours][c] for c in cells))
        assert row["over_best"] == pytest.approx(fmean(gains))
        assert row["over_best_relative"] == pytest.approx(100 * fmean(gains) / row["best"])
        assert row["best"] == pytest.approx(100 * fmean(best[c] for c in cells))
        assert row["over_single"] == pytest.approx(fmean(over_single))
        assert row["over_single_relative"] == pytest.approx(100 * fmean(over_single) / row["single"])
        assert (row["won"], row["lost"]) == (sum(g > 0.5 for g in gains), sum(g < -0.5 for g in gains))
        assert row["won"] + row["tied"] + row["lost"] == len(cells)
        assert row["over_best_interval"]["low"] < row["over_best"] < row["over_best_interval"]["high"]
        assert row["over_best_interval"]["over"] == "seeds and cells"
    for row in item["groups"]:
        cells = [
            c
            for c in means[ours]
            if REGIONS[row["cells"]](c[2], c[3])
            and row["backbone"] in (None, c[0])
            and row["dataset"] in (None, c[1])
        ]
        assert row["over_best"] == pytest.approx(fmean(100 * (means[ours][c] - best[c]) for c in cells))
    assert len(item["groups"]) == (3 + 3 + 9) * len(REGIONS)
    lost = sorted(100 * (means[ours][c] - best[c]) for c in means[ours])
    assert [row["gain"] for row in item["losses"]] == pytest.approx([g for g in lost if g < -0.5][:12])


def test_no_loss_compares_with_the_same_sensors_unpruned(lines, summary):
    own = [line for line in lines if line["training"] == "gate"]

    def sensors_of(line):
        return tuple(line[key] for key in ("backbone", "dataset", "seed", "fold", "missing_rate"))

    dense = {sensors_of(ln): value_of(ln) for ln in own if ln["method"] == "dense"}
    rows = {(r["protocol"], r["ratio"], r["missing_rate"]): r for r in summary["no_loss"]}
    assert len(rows) == 2 * 2 * 5
    for ratio in (0.6, 0.8):
        for rate in (None, *RATES):
            changes = [
                100 * (value_of(ln) - dense[sensors_of(ln)])
                for ln in own
                if (ln["method"], ln["ratio"]) == ("gate/aware", ratio)
                and (ln["protocol"] == "full" or ln["missing_rate"] == 0)
                and rate in (None, ln["missing_rate"])
            ]
            row = rows["full", ratio, rate]
            assert row["change"] == pytest.approx(fmean(changes))
            assert row["change"] == pytest.approx(row["ours"] - row["dense"])
            assert row["n_cells"] == 9 * (4 if rate is None else 1)


def test_the_ablation_changes_one_part_at_a_time(lines, summary):
    rows = [row for row in summary["ablation"] if row["protocol"] == "present"]
    changed = [(row["part"], row["other"]) for row in rows]
    assert changed == [
        ("repair", "ridge"),
        ("sensors", "blind"),
        ("allocation", "uniform"),
        ("scorer", "magnitude"),
        ("scorer", "taylor"),
        ("scorer", "taylor-oracle"),
        ("training", "plain"),
        ("training", "static"),
    ]
    means = cell_means(lines, "present")
    ours, other = means["gate", "gate/aware"], means["gate", "magnitude/aware"]
    for region, inside in REGIONS.items():
        gains = [100 * (ours[c] - other[c]) for c in ours if inside(c[2], c[3])]
        assert rows[3]["gains"][region]["gain"] == pytest.approx(fmean(gains))


def test_every_system_is_listed_the_best_first_and_references_are_no_baselines(lines, summary):
    for protocol in ("present", "full"):
        means = cell_means(lines, protocol)
        rows = [row for row in summary["systems"] if row["protocol"] == protocol]
        assert len(rows) == 3 * len(METHODS)
        found = [row["scores"]["all cells"] for row in rows]
        assert found == sorted(found, reverse=True)
        for row in rows:
            assert row["scores"]["all cells"] == pytest.approx(
                100 * fmean(means[row["training"], row["method"]].values())
            )
            assert row["baseline"] == (row["method"] in BASELINES)


def test_our_method_can_be_another_one(tmp_path):
    lines = small(methods=METHODS)
    found = summed(tmp_path, lines, ours="gate+ridge/aware")
    assert found["comparisons"][0]["ours"] == "gate+ridge/aware on gate"
    assert ("repair", "none") in {(row["part"], row["other"]) for row in found["ablation"]}
    with pytest.raises(ConfigError, match=r"'luck/aware' .*there is gate\+ridge/aware"):
        summed(tmp_path, lines, ours="luck/aware")


TWO = {name: METHODS[name] for name in ("gate/aware", "magnitude/aware", "taylor/aware")}


def small(scored=score, **more):
    values = {"backbones": ("mult",), "datasets": ("dsads",), "methods": TWO, "protocols": ("present",)}
    return make_lines(**{**values, **more}, scored=scored)


@pytest.mark.parametrize(("gain", "counts"), [(0.0051, (16, 0, 0)), (0.005, (0, 16, 0)), (-0.005, (0, 16, 0)),
                                              (-0.0051, (0, 0, 16))])  # fmt: skip
def test_half_a_point_is_a_tie(tmp_path, gain, counts):
    found = summed(tmp_path, small(lambda ln: 0.7 + (gain if ln["scorer"] == "gate" else 0.0)))
    row = found["comparisons"][0]["regions"][0]
    assert (row["won"], row["tied"], row["lost"]) == counts
    assert row["over_best"] == pytest.approx(100 * gain)
    assert row["over_best_interval"]["low"] == pytest.approx(row["over_best_interval"]["high"])


def test_a_missing_seed_makes_a_cell_incomplete_and_gains_are_paired_within_seeds(tmp_path):
    lines = small(lambda ln: 0.6 + 0.1 * ln["seed"] + (0.02 if ln["scorer"] == "gate" else 0.0))
    gone = [
        ln
        for ln in lines
        if ln["method"] != "gate/aware"
        or (ln["ratio"], ln["missing_rate"], ln["seed"], ln["training"]) != (0.4, 0.2, 2, "gate")
    ]
    assert len(gone) == len(lines) - 1
    item = summed(tmp_path, gone)["comparisons"][0]
    assert (item["n_present"], item["n_whole"]) == (16, 15)
    assert [row["whole"] for row in item["gains"]].count(False) == 1
    assert item["regions"][0]["over_best"] == pytest.approx(2.0), "seed 2 does not count for one side only"


def test_cells_that_were_not_run_are_missing_not_zero(tmp_path):
    lines = [ln for ln in small() if not (ln["method"] == "gate/aware" and ln["ratio"] == 0.8)]
    item = summed(tmp_path, lines)["comparisons"][0]
    assert (item["n_present"], item["n_cells"]) == (12, 16)
    assert item["regions"][0]["n_cells"] == 12


def test_a_baseline_run_on_easy_cells_only_is_not_the_best_single_one(tmp_path):
    lines = [ln for ln in small() if ln["scorer"] != "taylor" or ln["ratio"] == 0.2]
    item = summed(tmp_path, lines)["comparisons"][0]
    assert item["best_single"] == "magnitude/aware on plain"
    assert item["n_whole"] == 4


def test_what_the_design_names_and_was_not_run_is_missed(tmp_path):
    design = {
        "backbones": ["mult", "maestro"],
        "datasets": {"dsads": {"turns": [{"seed": seed} for seed in range(4)]}},
        "trainings": ["plain", "gate"],
        "methods": [{"scorer": "gate"}, {"scorer": "taylor", "repair": "ridge", "trainings": ["plain"]}],
    }
    (tmp_path / "design.json").write_text(json.dumps(design))
    found = summed(tmp_path, small())
    item = found["comparisons"][0]
    assert (item["n_cells"], item["n_present"], item["n_whole"]) == (32, 16, 0)
    assert found["study"]["datasets"][0]["replicates_wanted"] == 4
    assert found["study"]["not_run"] == ["taylor/aware/global/ridge on plain"]


def test_a_study_of_plain_checkpoints_alone_has_table_a_only(tmp_path):
    found = summed(tmp_path, small(trainings=("plain",)))
    assert [item["name"] for item in found["comparisons"]] == ["A"]
    assert (found["no_loss"], found["ablation"]) == ([], [])


def test_a_study_without_ours_is_refused(tmp_path):
    lines = [ln for ln in small() if ln["scorer"] != "gate"]
    with pytest.raises(ConfigError, match="'gate/aware' on training 'gate' has no lines"):
        summed(tmp_path, lines)


def test_the_made_up_study_is_whole():
    assert len({noise(n) for n in range(50)}) == 50
    assert len(BACKBONES) * len(DATASETS) * len(RATIOS) * len(RATES) == 144
