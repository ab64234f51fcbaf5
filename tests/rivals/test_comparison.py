from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sentryfuse as sf
from sentryfuse.data import leave_one_out
from sentryfuse.data.metrics import scores
from sentryfuse.errors import BudgetError, ConfigError
from sentryfuse.rivals import Comparison, compare
from sentryfuse.rivals.comparison import quick_verdict
from sentryfuse.rivals.features import Table
from sentryfuse.rivals.models import LDA, SENSOR_SUM, Workshop
from sentryfuse.rivals.rows import merged
from sentryfuse.runtime import score
from tests.tiny import CLASSES, GOLDEN, NAMES, tiny_windows

pytest.importorskip("sklearn")

pytestmark = pytest.mark.device

FILE = GOLDEN / "tiny-v3.bundle"
WINDOWS = tiny_windows()
QUICK = (LDA, SENSOR_SUM)
SCORES = ("accuracy", "macro_f1", "auroc", "nll", "ece")
KEYS = {
    "system", "ratio", "presence", *SCORES, "time_ms", "size_mb", "macs", "n_models", "n_windows",
    "n_refused",
}  # fmt: skip


@pytest.fixture(scope="module")
def found() -> Comparison:
    return compare(FILE, WINDOWS, ratios=[0.3, 0.0], rivals=QUICK)


def row(found, system, presence, ratio=None):
    (one,) = (r for r in found.rows if (r["system"], r["presence"], r["ratio"]) == (system, presence, ratio))
    return one


def test_one_row_for_each_system_and_kind_of_presence(found):
    assert [(r["system"], r["ratio"], r["presence"]) for r in found.rows] == [
        (system, ratio, presence)
        for presence in ("all", "one missing")
        for system, ratio in (("ours", 0.0), ("ours", 0.3), (LDA, None), (SENSOR_SUM, None))
    ]
    assert all(set(r) == KEYS for r in found.rows)
    json.dumps(found.rows, allow_nan=False)
    for r in found.rows:
        assert r["time_ms"] > 0
        assert r["size_mb"] > 0
        assert (r["macs"] is None) == (r["system"] != "ours")
        assert r["n_windows"] == len(WINDOWS.indices("test")) * (1 if r["presence"] == "all" else len(NAMES))
    assert found.measure == "accuracy"
    assert "better than ours at r = 0 with all sensors" in found.verdict  # the bundle is not trained


def test_ours_are_the_rows_of_score(found):
    bundle = sf.load_bundle(FILE)
    sets = [NAMES, *leave_one_out(NAMES)]
    rows = score(bundle, WINDOWS, present=sets, budgets=[sf.Budget(ratio=0.3)])
    for key in (*SCORES, "macs"):
        if rows[0][key] is not None:
            assert row(found, "ours", "all", 0.3)[key] == rows[0][key]
            mean = np.mean([r[key] for r in rows[1:]])
            assert row(found, "ours", "one missing", 0.3)[key] == pytest.approx(mean, abs=0.5)


def test_rivals_are_fitted_on_training_and_validation_again_for_every_missing_sensor(found):
    taught = np.concatenate([WINDOWS.indices("train"), WINDOWS.indices("validation")])
    test = WINDOWS.indices("test")
    shop = Workshop(Table.of_recording(WINDOWS, taught), WINDOWS.y[taught], len(CLASSES), seed=0, threads=1)
    table = Table.of_recording(WINDOWS, test)
    want = [
        scores(WINDOWS.y[test], shop.fit(LDA, names).probabilities(table))
        for names in (NAMES, *leave_one_out(NAMES))
    ]
    for key in ("accuracy", "macro_f1", "nll", "ece"):
        assert row(found, LDA, "all")[key] == pytest.approx(want[0][key])
        assert row(found, LDA, "one missing")[key] == pytest.approx(np.mean([w[key] for w in want[1:]]))
    assert row(found, LDA, "one missing")["n_models"] == len(NAMES)
    assert row(found, SENSOR_SUM, "one missing")["n_models"] == 1
    assert row(found, "ours", "one missing", 0.0)["n_models"] == 1


def test_windows_that_ours_cannot_answer_are_left_out_for_rivals_too():
    present = WINDOWS.present.copy()
    test = WINDOWS.indices("test")
    present[test[:3]] = [True, False, False]
    present[test[3]] = False
    found = compare(FILE, dataclasses.replace(WINDOWS, present=present), ratios=[0.0], rivals=[LDA])
    for system, ratio in (("ours", 0.0), (LDA, None)):
        assert row(found, system, "all", ratio)["n_windows"] == len(test) - 1
        assert row(found, system, "all", ratio)["n_refused"] == 1
        assert row(found, system, "one missing", ratio)["n_refused"] == 3 + 1 + 1 + 1


def test_all_sensors_alone_on_demand():
    found = compare(FILE, WINDOWS, ratios=[0.0], rivals=[LDA], missing=False)
    assert {r["presence"] for r in found.rows} == {"all"}
    assert "missing" not in found.verdict


def test_ours_is_whole_small_and_without_a_layer_unless_other_ratios_are_asked_for():
    for asked, ratios in ((None, {0.0, 0.8, 1.0}), ([0.99], {0.99})):
        found = compare(FILE, WINDOWS, ratios=asked, rivals=[LDA])
        assert {r["ratio"] for r in found.rows if r["system"] == "ours"} == ratios
    with pytest.raises(BudgetError):
        compare(FILE, WINDOWS, ratios=[1.1], rivals=[LDA])


def test_rows_of_one_kind_become_their_mean_and_counts_their_sum():
    def one(presence, auroc, n):
        numbers = dict.fromkeys(("accuracy", "macro_f1", "nll", "ece", "time_ms", "size_mb"), 0.5)
        return {
            "system": LDA, "ratio": None, "presence": presence, **numbers, "auroc": auroc, "macs": None,
            "n_models": 1, "n_windows": n, "n_refused": 1,
        }  # fmt: skip

    whole, part = merged([one("all", 0.9, 5), one("one missing", 0.6, 5), one("one missing", 0.8, 4)])
    assert (whole["auroc"], whole["n_models"], whole["n_windows"]) == (0.9, 1, 5)
    assert part["auroc"] == pytest.approx(0.7)
    assert (part["n_models"], part["n_windows"], part["n_refused"]) == (2, 9, 2)
    (lost,) = merged([one("one missing", 0.6, 5), one("one missing", None, 4)])
    assert lost["auroc"] is None


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ConfigError, match="no test windows"):
        compare(FILE, dataclasses.replace(WINDOWS, split=np.zeros(len(WINDOWS), np.int8)))
    with pytest.raises(ConfigError, match="svm is unknown; there are random forest"):
        compare(FILE, WINDOWS, rivals=["svm"])
    other = tuple(dataclasses.replace(m, name=f"my {m.name}") for m in WINDOWS.modalities)
    renamed = dataclasses.replace(
        WINDOWS,
        modalities=other,
        raw={f"my {k}": v for k, v in WINDOWS.raw.items()},
        scale={f"my {k}": v for k, v in WINDOWS.scale.items()},
    )
    with pytest.raises(ConfigError, match="the model was made for acc, temp, age"):
        compare(FILE, renamed)
    empty = dataclasses.replace(WINDOWS, split=np.full(len(WINDOWS), 2, np.int8))
    with pytest.raises(ConfigError, match="no training window"):
        compare(FILE, empty, rivals=[LDA])


def test_a_missing_scikit_learn_is_said_first(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ConfigError, match="scikit-learn"):
        compare("no such bundle", WINDOWS)


def test_equal_seeds_give_equal_scores():
    one, two = (compare(FILE, WINDOWS, ratios=[0.0], rivals=["extra trees"], seed=5) for _ in range(2))
    for left, right in zip(one.rows, two.rows, strict=True):
        assert [left[key] for key in SCORES] == [right[key] for key in SCORES]


def test_a_bundle_is_compared_where_torch_does_not_exist():
    code = (
        "import sys\n"
        "class NoTorch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'torch':\n"
        "            raise ModuleNotFoundError('no torch here', name='torch')\n"
        "sys.meta_path.insert(0, NoTorch())\n"
        "import sentryfuse as sf\n"
        "from tests.tiny import tiny_windows\n"
        f"found = sf.compare({str(FILE)!r}, tiny_windows(), ratios=[0.0], rivals=['LDA'])\n"
        "print(found.verdict)\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "by accuracy" in done.stdout


def test_no_verdict_where_nothing_can_be_compared():
    nobody = WINDOWS.present & (WINDOWS.split != 2)[:, None]
    assert quick_verdict(sf.load_bundle(FILE), dataclasses.replace(WINDOWS, present=nobody)) is None
    one = dataclasses.replace(WINDOWS, y=np.zeros_like(WINDOWS.y))
    assert quick_verdict(sf.load_bundle(FILE), one) is None
    assert "all sensors" in (quick_verdict(sf.load_bundle(FILE), WINDOWS) or "")
