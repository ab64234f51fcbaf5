from __future__ import annotations

import csv
import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

import sentryfuse as sf
from sentryfuse.bundle import Bundle, load_bundle
from sentryfuse.data import make_windows
from sentryfuse.engine import Session
from sentryfuse.errors import BudgetError, ConfigError, DataError
from sentryfuse.runtime import answer_windows, predict
from sentryfuse.runtime.answers import check_file, save_answers
from sentryfuse.runtime.cutting import cut_csv
from sentryfuse.types import Budget
from tests.tiny import CLASSES, GOLDEN, MODALITIES, NAMES, tiny_windows

pytestmark = pytest.mark.device

WINDOWS = tiny_windows()


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(GOLDEN / "tiny-v3.bundle")


def unlabelled(**changes):
    made = {"raw": dict(WINDOWS.raw), "subject": WINDOWS.subject}
    return make_windows("new", MODALITIES, **{**made, **changes})


def test_a_row_of_probabilities_for_every_window_in_order(bundle):
    p = predict(bundle, WINDOWS)
    assert p.shape == (len(WINDOWS), len(CLASSES))
    assert p.dtype == np.float32
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
    for i in (0, 5, 17):
        on = [n for n, there in zip(NAMES, WINDOWS.present[i], strict=True) if there]
        own = Session(bundle, bundle.plan(on)).run(WINDOWS.batch(np.array([i]), on))
        np.testing.assert_allclose(p[i], own[0], atol=1e-5)


def test_labels_make_no_difference(bundle):
    p = predict(bundle, WINDOWS)
    np.testing.assert_array_equal(predict(bundle, unlabelled()), p)
    np.testing.assert_array_equal(predict(bundle, dict(WINDOWS.raw)), p)
    strange = dataclasses.replace(WINDOWS, classes=("x", "y", "z"))
    np.testing.assert_array_equal(predict(bundle, strange), p)


def test_a_split_and_a_budget_are_taken(bundle):
    indices = WINDOWS.indices("test")
    answers = answer_windows(bundle, WINDOWS, split="test", present=["acc"], budget=Budget(ratio=0.5))
    assert list(answers.window) == list(indices)
    assert {plan.present for plan in answers.plans} == {("acc",)}
    assert {plan.budget.ratio for plan in answers.plans} == {0.5}
    rows = sf.score(bundle, WINDOWS, present=[["acc"]], budgets=[Budget(ratio=0.5)])
    right = np.mean([CLASSES.index(a) for a in answers.answer] == WINDOWS.y[indices])
    assert right == pytest.approx(rows[0]["accuracy"])


def test_windows_without_any_sensor_have_no_answer(bundle):
    raw = {name: x.copy() for name, x in WINDOWS.raw.items()}
    for x in raw.values():
        x[3] = np.nan
    answers = answer_windows(bundle, unlabelled(raw=raw))
    assert np.isnan(answers.probabilities[3]).all()
    assert not np.isnan(np.delete(answers.probabilities, 3, axis=0)).any()
    assert answers.answer[3] is None
    row = list(answers.rows())[3]
    assert row == {"window": 3, "subject": 3, "answer": None, "sensors": [], "plan": None} | {
        f"p_{c}": None for c in CLASSES
    }


def test_a_sensor_nobody_wore_is_the_same_as_one_that_is_not_there(bundle):
    without = predict(bundle, {name: WINDOWS.raw[name] for name in NAMES[:2]})
    asked = predict(bundle, WINDOWS, present=NAMES[:2])
    np.testing.assert_array_equal(without, asked)


def test_gaps_that_training_never_saw_leave_the_sensor_out(bundle):
    raw = {name: x.copy() for name, x in WINDOWS.raw.items()}
    raw["acc"][2, 5] = np.nan
    answers = answer_windows(bundle, raw)
    assert "acc" not in answers.plans[answers.plan[2]].present
    np.testing.assert_array_equal(answers.probabilities[2], predict(bundle, WINDOWS, present=NAMES[1:])[2])


def test_what_cannot_be_answered_is_refused(bundle):
    for wrong, word in (
        ({"ecg": np.zeros((2, 4, 1))}, "use those names"),
        ({}, "no sensor"),
        ({"acc": np.zeros((2, 3, 4))}, "make them agree"),
    ):
        with pytest.raises((ConfigError, DataError), match=word):
            predict(bundle, wrong)
    with pytest.raises(ConfigError, match="unknown sensor"):
        predict(bundle, WINDOWS, present=["ecg"])
    with pytest.raises(BudgetError):
        predict(bundle, WINDOWS, budget=Budget(macs=5))
    with pytest.raises(DataError, match=r"no labels.*`predict` answers without"):
        sf.score(bundle, unlabelled())


def test_answers_are_the_same_in_every_file(bundle, tmp_path):
    answers = answer_windows(bundle, WINDOWS, split="test")
    for suffix in ("csv", "jsonl"):
        save_answers(tmp_path / f"a.{suffix}", answers)
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream))
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()]
    assert tuple(table[0]) == tuple(lines[0]) == answers.columns
    assert answers.columns == (
        "window", "subject", "answer", *(f"p_{c}" for c in CLASSES), "sensors", "plan"
    )  # fmt: skip
    p = np.array([[row[f"p_{c}"] for c in CLASSES] for row in table], np.float32)
    np.testing.assert_array_equal(p, answers.probabilities)
    for row, line in zip(table, lines, strict=True):
        assert row["sensors"] == ",".join(line["sensors"])
        assert (row["answer"], row["plan"], int(row["window"])) == (
            line["answer"],
            line["plan"],
            line["window"],
        )


@pytest.mark.parametrize("package", ["polars", "pyarrow"])
def test_parquet_is_written_by_what_is_there(bundle, tmp_path, package, monkeypatch):
    made = pytest.importorskip(package)
    other = {"polars": "pyarrow", "pyarrow": "polars"}[package]
    monkeypatch.setitem(sys.modules, other, None)
    answers = answer_windows(bundle, WINDOWS, split="test")
    save_answers(tmp_path / "a.parquet", answers)
    if package == "polars":
        columns = made.read_parquet(tmp_path / "a.parquet").to_dict(as_series=False)
    else:
        columns = pytest.importorskip("pyarrow.parquet").read_table(tmp_path / "a.parquet").to_pydict()
    assert tuple(columns) == answers.columns
    p = np.array([columns[f"p_{c}"] for c in CLASSES], np.float32).T
    np.testing.assert_array_equal(p, answers.probabilities)
    assert columns["window"] == list(answers.window)


def test_a_file_that_could_not_be_written_is_refused_before(monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match=r"\.csv, \.jsonl, \.parquet"):
        check_file(tmp_path / "a.txt")
    for package in ("polars", "pyarrow"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=r"sentryfuse\[data\]"):
        check_file(tmp_path / "a.parquet")


def write_samples(path, seconds=8.0):
    """Samples of the tiny sensors as a table; the second one stops half way."""
    rng = np.random.default_rng(0)
    window_s = max(m.length / m.rate_hz for m in MODALITIES if m.rate_hz)
    rows = []
    for m in MODALITIES:
        step = 1 / m.rate_hz if m.rate_hz else window_s
        until = seconds / 2 if m.name == NAMES[1] else seconds
        for t in np.arange(0.001 if m.rate_hz == 0 else 0, until, step):
            rows.append((round(float(t), 6), m, rng.normal(size=m.n_channels)))
    columns = [f"{m.name}.{c}" for m in MODALITIES for c in m.channels]
    with path.open("w", encoding="utf-8") as stream:
        stream.write(",".join(["time_s", *columns]) + "\n")
        for t, m, values in sorted(rows, key=lambda row: row[0]):
            cells = dict(zip([f"{m.name}.{c}" for c in m.channels], values, strict=True))
            stream.write(
                ",".join([str(t), *(f"{cells[c]:.4f}" if c in cells else "" for c in columns)]) + "\n"
            )
    return path


def test_a_table_is_cut_as_the_runtime_cuts_a_stream(bundle, tmp_path):
    path = write_samples(tmp_path / "person.csv")
    cut = cut_csv(path, bundle)
    assert cut.windows.name == "person"
    assert cut.windows.names == NAMES
    assert not cut.windows.labelled
    p = predict(bundle, cut.windows)
    with sf.open_source(f"replay:{path}", MODALITIES) as source, sf.Runtime(bundle, source) as runtime:
        results = list(runtime)
    assert [round(r.end_s, 6) for r in results] == [round(float(t), 6) for t in cut.end_s]
    on = [tuple(np.array(NAMES)[row]) for row in cut.windows.present]
    assert on == [r.present for r in results]
    assert len(set(on)) > 1
    for got, result in zip(p, results, strict=True):
        if result.probabilities is not None:
            np.testing.assert_allclose(got, result.probabilities, atol=1e-5)


def test_a_hop_gives_more_windows_and_too_few_samples_none(bundle, tmp_path):
    path = write_samples(tmp_path / "person.csv")
    once, twice = (len(cut_csv(path, bundle, hop_s=hop).windows) for hop in (None, 0.5))
    assert twice > once
    with pytest.raises(DataError, match="less than one window"):
        cut_csv(write_samples(tmp_path / "short.csv", seconds=0.2), bundle)


def test_it_works_where_torch_does_not_exist(tmp_path):
    code = (
        "import sys\nsys.modules['torch'] = sys.modules['sklearn'] = None\n"
        "import numpy as np, sentryfuse as sf\n"
        f"bundle = sf.load_bundle({str(GOLDEN / 'tiny-v3.bundle')!r})\n"
        f"p = sf.predict(bundle, {{'age': np.zeros((3, 1, 2))}})\n"
        "assert p.shape == (3, 3), p.shape"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
