"""The demo on a tiny recording; the export, its slowest part, is taken from the shared one."""

from __future__ import annotations

import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfuse.cli import demo
from sentryfuse.report import parse_results

FILES = ["model.bundle", "report.html", "results.json"]


@pytest.fixture
def quick(monkeypatch, bundle):
    def copy(model, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle, path)
        return {"plans": 1, "max_difference": 0.0}

    monkeypatch.setattr("sentryfuse.export.export_bundle", copy)
    monkeypatch.setattr(demo, "BENCH_REPEATS", 10)
    monkeypatch.setattr(demo, "BENCH_BUILDS", 1)


def test_the_demo_writes_results_page_and_bundle(command, quick, recording, tmp_path):
    out = tmp_path / "demo"
    out.mkdir()
    (out / "results.json").write_text("old", encoding="utf-8")
    done = command("demo", "--data", recording, "--out", out, "--epochs", 1, "--json", "-")
    assert done.code == 0
    assert sorted(path.name for path in out.iterdir()) == FILES
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert done.json == results
    assert "[train]" in done.err
    assert "<html" in (out / "report.html").read_text(encoding="utf-8")

    checked = parse_results(results)
    assert len(checked.evaluation.rows) == len(checked.bench) == 4 * 3
    assert {row.status for row in checked.replay} == {"OK", "DEGRADED", "REFUSED"}
    assert sum(row.switched for row in checked.replay) >= 5
    assert len(checked.training) == 1
    assert checked.made is not None
    assert {"train", "export", "evaluate", "plan", "bench", "replay"} <= checked.made.seconds.keys()

    headings, rows = demo.summary(results)
    assert [row[0] for row in rows] == ["dense", "r=0.4", "r=0.6", "r=0.8"]
    assert all(len(row) == len(headings) for row in rows)
    macs = [row["macs"] for row in results["bench"] if len(row["present"]) == 2]
    assert macs == sorted(macs, reverse=True)


def test_a_demo_that_cannot_make_its_page_says_so_before_it_trains(command, monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "find_spec", lambda name: None if name == "matplotlib" else name)
    done = command("demo", "--out", tmp_path / "demo")
    assert done.code == 2
    assert "pip install 'sentryfuse[report]'" in done.err
    assert not (tmp_path / "demo").exists()


@given(st.integers(1, 6), st.integers(1, 400))
def test_the_schedule_starts_with_everything_and_ends_with_all_sensors_back(n_sensors, n_windows):
    names = [f"s{i}" for i in range(n_sensors)]
    changes = demo.trouble(names, n_windows)
    starts = [change.from_window for change in changes]
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    assert starts[-1] < n_windows
    assert changes[-1].present == tuple(names)
    assert {name for change in changes for name in change.present or ()} == set(names)
    if n_windows >= 40:
        assert (changes[0].present, changes[0].ratio) == (tuple(names), 0.0)
        assert any(not change.present for change in changes)
        assert max(change.ratio for change in changes) == 0.8
