from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sentryfuse.bundle import load_bundle
from sentryfuse.engine import Session
from sentryfuse.engine.engines import OnnxRuntime, check_threads, find_engine, list_engines
from sentryfuse.errors import ConfigError
from sentryfuse.measure import bench
from sentryfuse.types import Budget
from tests.laws.hand_plans import any_plan
from tests.tiny import GOLDEN, SENSOR_SETS, tiny_batch

pytestmark = pytest.mark.device

OTHERS = [name for name in list_engines() if name != "onnxruntime"]
NAMES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            importlib.util.find_spec(name) is None, reason=f"{name} is not installed here"
        ),
    )
    for name in OTHERS
]


@pytest.fixture(scope="module")
def bundle():
    return load_bundle(GOLDEN / "tiny-v3.bundle")


@pytest.mark.parametrize("name", NAMES)
def test_every_engine_gives_the_same_answers(bundle, name):
    engine = find_engine(name)
    for seed, present in enumerate(SENSOR_SETS):
        for plan in (bundle.plan(present, Budget(ratio=0.3)), any_plan(bundle.layout, present, seed=seed)):
            windows = tiny_batch(2)
            got = Session(bundle, plan, engine=engine).run(windows)
            np.testing.assert_allclose(got, Session(bundle, plan).run(windows), atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_every_engine_can_be_timed(bundle, name):
    rows = bench(bundle, ratios=(0.3,), repeats=5, builds=1, engine=name)
    assert [row["engine"] for row in rows] == [name, name]


@pytest.mark.parametrize(("name", "batch"), [("onnxruntime", 1), ("onnxruntime", None)])
def test_a_session_may_be_asked_by_many_threads_at_once(bundle, name, batch):
    check_many_threads(Session(bundle, bundle.plan(), batch=batch, engine=name))


@pytest.mark.parametrize("name", NAMES)
def test_other_engines_may_be_asked_by_many_threads_at_once(bundle, name):
    check_many_threads(Session(bundle, bundle.plan(), engine=name))


def check_many_threads(session):
    windows = [tiny_batch(1, seed=seed) for seed in range(8)]
    alone = [session.run(window) for window in windows]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            for got, want in zip(pool.map(session.run, windows), alone, strict=True):
                assert np.array_equal(got, want)


def test_an_answer_is_the_callers_own(bundle):
    session = Session(bundle, bundle.plan(), batch=1)
    first = session.run(tiny_batch(1, seed=1))
    copy = first.copy()
    session.run(tiny_batch(1, seed=2))
    assert np.array_equal(first, copy)


def test_an_unknown_engine_is_refused(bundle):
    with pytest.raises(ConfigError, match=r"'tflite' is unknown; there is onnxruntime, openvino"):
        Session(bundle, bundle.plan(), engine="tflite")


def test_an_engine_that_is_missing_is_a_sentence(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigError, match=r"pip install sentryfuse\[openvino\]"):
        Session(bundle, bundle.plan(), engine="openvino")


def test_an_engine_of_ones_own_is_taken(bundle):
    engine = OnnxRuntime()
    assert find_engine(engine) is engine
    assert Session(bundle, bundle.plan(), engine=engine).engine is engine


@pytest.mark.parametrize(
    "threads", [0, -1, 1025, 100_000, 10**400, True, 1.5, "2"], ids=lambda n: repr(n)[:8]
)
def test_threads_that_no_machine_has_are_refused_before_any_is_started(threads):
    with pytest.raises(ConfigError, match="threads must be 1 to 1024, got") as caught:
        check_threads(threads)
    assert len(str(caught.value)) < 120


def test_the_engine_keeps_no_record_of_its_use(tmp_path):
    """Neither a number of the device nor a database of events that waits to be sent."""
    answer = (
        "from sentryfuse import load_bundle\n"
        "from sentryfuse.engine import Session\n"
        "from tests.tiny import GOLDEN, tiny_batch\n"
        "bundle = load_bundle(GOLDEN / 'tiny-v3.bundle')\n"
        "print(Session(bundle, bundle.plan()).run(tiny_batch(2)).shape)\n"
    )
    env = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    env |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    root = GOLDEN.parents[1]
    done = subprocess.run(
        [sys.executable, "-c", answer], cwd=root, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("(2, ")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
