from __future__ import annotations

import pytest

from sentryfuse.bundle import load_bundle
from sentryfuse.errors import BudgetError, ConfigError
from sentryfuse.machine import machine
from sentryfuse.measure import bench
from sentryfuse.measure.bench import peak_rss_mb
from sentryfuse.types import Budget
from tests.tiny import GOLDEN, NAMES

pytestmark = pytest.mark.device

FILE = GOLDEN / "tiny-v3.bundle"
KEYS = {
    "name", "present", "ratio", "engine", "threads", "plan_id", "latency_ms", "peak_rss_mb",
    "weights_mb", "macs", "switch_ms",
}  # fmt: skip


@pytest.fixture(scope="module")
def bundle():
    return load_bundle(FILE)


def test_every_set_has_a_dense_row_and_one_per_ratio(bundle):
    rows = bench(bundle, present=[None, ("acc",)], ratios=[0.3, 0.3], repeats=10, builds=1)
    assert [(row["name"], tuple(row["present"])) for row in rows] == [
        ("dense", NAMES),
        ("r0.3", NAMES),
        ("dense", ("acc",)),
        ("r0.3", ("acc",)),
    ]
    for row in rows:
        plan = bundle.plan(row["present"], Budget(ratio=row["ratio"]))
        assert (row["plan_id"], row["macs"]) == (plan.plan_id, plan.cost.macs)
        assert row["weights_mb"] == plan.cost.weights_mb
        assert (row["engine"], row["threads"]) == ("onnxruntime", 1)
        latency, switch = row["latency_ms"], row["switch_ms"]
        assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
        assert 0 < switch["cold"]["p50"] <= switch["cold"]["p99"]
        assert 0 < switch["warm"]["p50"] < switch["cold"]["p50"]


def test_memory_is_measured_in_a_fresh_process_or_said_not_to_be(bundle, tmp_path):
    measured = bench(bundle, repeats=1, builds=0, path=FILE)[0]
    assert set(measured) == KEYS
    assert 10 < measured["peak_rss_mb"] < 2000
    assert measured["switch_ms"]["cold"] is None
    unmeasured = bench(bundle, repeats=1, builds=0)[0]
    assert unmeasured["peak_rss_mb"] is None
    assert unmeasured["peak_rss_reason"] == "not measured"
    failed = bench(bundle, repeats=1, builds=0, path=tmp_path / "none.bundle")[0]
    assert failed["peak_rss_mb"] is None
    assert "none.bundle" in failed["peak_rss_reason"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"present": [("ecg",)]}, ConfigError),
        ({"ratios": [1.001]}, BudgetError),
        ({"repeats": 0}, ConfigError),
        ({"threads": 0}, ConfigError),
        ({"builds": -1}, ConfigError),
    ],
)
def test_what_cannot_be_measured_is_refused(bundle, options, error):
    with pytest.raises(error):
        bench(bundle, **options)


def test_the_machine_and_the_versions_are_named():
    facts = machine()
    assert "cores" in facts["machine"]
    assert {"sentryfuse", "python", "numpy", "onnxruntime"} <= facts["versions"].keys()


def test_nothing_of_the_current_folder_is_run(bundle, tmp_path, monkeypatch):
    for name in ("safetensors", "numpy", "json"):
        (tmp_path / f"{name}.py").write_text(
            "from pathlib import Path\nPath('run').touch()\n", encoding="utf-8"
        )
    monkeypatch.chdir(tmp_path)
    measured, reason = peak_rss_mb(FILE, bundle.plan(None, Budget(ratio=0.0)), threads=1)
    assert measured is not None, reason
    assert not (tmp_path / "run").exists()
