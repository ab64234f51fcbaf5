"""Intervals: wide where little is known, paired, and over windows where answers are there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfuse.data.metrics import auroc
from sentryfuse.errors import InputError
from sentryfuse.study.report import read_study, summarize_study
from sentryfuse.study.report.answers import placements
from tests.report.study_lines import METHODS, make_lines, noise, with_answers, write_lines

pytestmark = pytest.mark.device

TWO = {name: METHODS[name] for name in ("gate/aware", "taylor/aware")}


def small(**more):
    values = {
        "backbones": ("mult",),
        "methods": TWO,
        "protocols": ("present",),
        "trainings": ("plain", "gate"),
    }
    return make_lines(**{**values, "ratios": (0.4, 0.6), "rates": (0.0, 0.4), **more})


def first_row(folder):
    return summarize_study(read_study([folder]))["comparisons"][0]["regions"][0]


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), min_size=2, max_size=40).filter(
        lambda pairs: len({y for y, _ in pairs}) == 2
    )
)
def test_placements_have_auroc_as_their_mean(pairs):
    y, score = zip(*pairs, strict=True)
    assert placements(y, score).mean() == pytest.approx(auroc(y, score))


def test_placements_follow_auroc_of_resampled_windows():
    rng = np.random.default_rng(0)
    y = rng.random(3000) < 0.15
    score = rng.normal(size=3000) + y
    values = placements(y, score)
    drawn = [rng.integers(0, 3000, size=3000) for _ in range(100)]
    exact = np.array([auroc(y[d].astype(int), score[d]) for d in drawn], dtype=float)
    assert np.std(exact - [values[d].mean() for d in drawn]) < 0.05 * exact.std()


def test_seeds_that_agree_give_a_narrow_interval_and_seeds_that_do_not_a_wide_one(tmp_path):
    def scored(spread):
        return lambda ln: (
            0.7 + (0.02 + spread * noise(ln["seed"], ln["fold"]) if ln["scorer"] == "gate" else 0)
        )

    widths = []
    for number, spread in enumerate((0.0, 0.01, 0.02)):
        write_lines(tmp_path / str(number) / "lines.jsonl", small(scored=scored(spread)))
        interval = first_row(tmp_path / str(number))["over_best_interval"]
        widths.append(interval["high"] - interval["low"])
    assert widths[0] == pytest.approx(0, abs=1e-9)
    assert widths[2] == pytest.approx(2 * widths[1], rel=1e-6)
    assert widths[1] > 0.1


def test_with_answers_windows_are_resampled_and_both_sides_on_the_same(tmp_path):
    lines = with_answers(tmp_path, small(seeds=(0,), datasets=("dsads",)))
    write_lines(tmp_path / "lines.jsonl", lines)
    row = first_row(tmp_path)
    interval = row["over_best_interval"]
    assert interval["over"] == "windows"
    assert interval["low"] < row["over_best"] < interval["high"]
    # one training, windows independent: the textbook error of a mean of paired differences
    wanted: dict[tuple[str, str], list[Any]] = {(ln["training"], ln["method"]): [] for ln in lines}
    for ln in lines:
        if ln["ratio"]:
            (path,) = (p for p in (tmp_path / "answers").iterdir() if ln["training"] in p.name)
            arrays = np.load(path)
            right = arrays[ln["key"]].argmax(axis=1) == arrays["y"]
            wanted[ln["training"], ln["method"]].append(right)
    ours, theirs = (
        np.mean(wanted[key], axis=0) for key in (("gate", "gate/aware"), ("plain", "taylor/aware"))
    )
    error = 100 * (ours - theirs).std() / np.sqrt(len(ours))
    assert (interval["high"] - interval["low"]) / 2 == pytest.approx(1.96 * error, rel=0.1)


def test_windows_that_two_seeds_share_count_as_one(tmp_path):
    lines = with_answers(tmp_path / "one", small(seeds=(0,), datasets=("dsads",)))
    write_lines(tmp_path / "one" / "lines.jsonl", lines)
    again = [{**line, "seed": 1, "key": line["key"] + "-again"} for line in lines]
    write_lines(tmp_path / "two" / "lines.jsonl", [*lines, *again])
    (tmp_path / "two" / "answers").mkdir()
    for path in (tmp_path / "one" / "answers").iterdir():
        arrays = dict(np.load(path))
        twice = {f"{name}-again": value for name, value in arrays.items() if name not in ("y", "windows")}
        np.savez(tmp_path / "two" / "answers" / path.name, **arrays, **twice)
    widths = []
    for name in ("one", "two"):
        interval = first_row(tmp_path / name)["over_best_interval"]
        widths.append(interval["high"] - interval["low"])
    assert widths[1] == pytest.approx(widths[0], rel=0.1)  # independent ones would give 0.7 of it


def test_seeds_and_windows_together_and_auroc_too(tmp_path):
    lines = with_answers(tmp_path, small(datasets=("physionet2012", "wesad_wrist")))
    write_lines(tmp_path / "lines.jsonl", lines)
    summary = summarize_study(read_study([tmp_path]))
    for item in summary["comparisons"]:
        for row in item["regions"]:
            found = row["over_best_interval"]
            assert found["over"] == "seeds and windows"
            assert found["low"] < row["over_best"] < found["high"]
    assert summary == summarize_study(read_study([tmp_path])), "the same lines give the same numbers"


def test_lines_without_their_answers_fall_back_to_cells(tmp_path):
    lines = with_answers(tmp_path, small(datasets=("dsads",)))
    write_lines(tmp_path / "lines.jsonl", lines)
    next((tmp_path / "answers").glob("*gate*")).unlink()
    assert first_row(tmp_path)["over_best_interval"]["over"] == "seeds and cells"


def test_answers_of_another_run_are_refused(tmp_path):
    lines = with_answers(tmp_path, small(datasets=("dsads",)))
    write_lines(tmp_path / "lines.jsonl", [{**line, "accuracy": line["accuracy"] - 0.1} for line in lines])
    with pytest.raises(InputError, match="answers and lines are of two runs"):
        first_row(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn"])
def test_damaged_answers_are_refused(tmp_path, content):
    lines = with_answers(tmp_path, small(datasets=("dsads",)))
    write_lines(tmp_path / "lines.jsonl", lines)
    path = next((tmp_path / "answers").iterdir())
    path.write_bytes(content or path.read_bytes()[:300])
    with pytest.raises(InputError, match="cannot be read"):
        first_row(tmp_path)
