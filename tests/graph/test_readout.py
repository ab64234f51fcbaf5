from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from sentryfuse.engine.engines import OnnxRuntime
from sentryfuse.errors import ConfigError
from sentryfuse.graph import readout as written
from sentryfuse.graph.readout import alike, write_readout
from sentryfuse.readout import Readout, fit_readout, person_moments
from sentryfuse.readout.boosting import boost
from sentryfuse.statistics import features, order_statistics
from sentryfuse.types import Modality

pytestmark = pytest.mark.device

CLASSES = ("sit", "walk", "run")
TOLERANCE = 1e-4
COARSE = 1e-3  # where heads that folds of people found useless, with large weights, have a say
SENSORS = (
    Modality("acc", 25.0, 12, ("x", "y")),
    Modality("gyro", 25.0, 12, ("x", "y")),
    Modality("temp", 1.0, 10, ("skin",), may_miss=True),
    Modality("age", 0.0, 1, ("years", "weight"), may_miss=True),
    Modality("ecg", 100.0, 20, ("v",)),
)
NAMES = tuple(m.name for m in SENSORS)
SETS = [s for n in range(1, 6) for s in combinations(NAMES, n)]
FEW = ("acc", "temp", "age")
Windows = dict[str, np.ndarray]


def recording(n: int = 90, seed: int = 0) -> tuple[Windows, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % len(CLASSES)
    x = {}
    for i, m in enumerate(SENSORS):
        wave = np.sin(np.arange(m.length)[:, None] * 0.3 * (1 + y[:, None, None]))
        noise = rng.normal(size=(n, m.length, m.n_channels))
        x[m.name] = (10.0 * i + 0.3 * y[:, None, None] + 0.3 * wave + noise).astype(np.float32)
        if m.may_miss:
            x[m.name][rng.random(x[m.name].shape) < 0.3] = np.nan
    return x, y, np.arange(n) * 6 // n


@pytest.fixture(autouse=True)
def _every_sort_is_dear(monkeypatch):
    """Windows here are short, and numpy is to sort them all the same."""
    monkeypatch.setattr(written, "_SORT", 1e9)


@pytest.fixture(scope="module")
def windows() -> Windows:
    return recording(seed=1)[0]


def fit(names: tuple[str, ...] = NAMES, *, classes: tuple[str, ...] = CLASSES, **more) -> Readout:
    x, y, subject = recording()
    table = {m.name: features(m, x[m.name]) for m in SENSORS if m.name in names}
    more.setdefault("trees", False)
    return fit_readout(table, y, subject, classes, **more).readout


@pytest.fixture(scope="module")
def plain() -> Readout:
    return fit(normalise="population")


@pytest.fixture(scope="module")
def personal() -> Readout:
    return fit(normalise="person")


@pytest.fixture(scope="module")
def with_trees() -> Readout:
    pytest.importorskip("sklearn")
    return fit(FEW, trees=True, normalise="population")


def every_head(readout: Readout) -> Readout:
    """The same with a weight for every head, also those that people not seen found useless."""
    return replace(readout, pool=np.maximum(readout.pool, 0.3))


def by_graph(
    readout: Readout,
    present: tuple[str, ...],
    windows: Mapping[str, np.ndarray],
    *,
    batch: int | None,
    sort: bool = False,
    more: Mapping[str, np.ndarray] | None = None,
) -> np.ndarray:
    solved = readout.solve(present)
    model = write_readout(readout, solved, SENSORS, batch=batch, fused=True, sorts=sort)
    feed = dict(more or {})
    for sensors, outside in alike((m for m in SENSORS if m.name in present), batch):
        first = sensors[0]
        if outside and not sort:
            turned = np.concatenate([windows[m.name] for m in sensors]).transpose(0, 2, 1)
            feed[f"turned.{first.name}"] = np.ascontiguousarray(turned)
            feed[f"order.{first.name}"] = order_statistics(turned, may_miss=first.may_miss)
        else:
            feed |= {f"window.{m.name}": windows[m.name] for m in sensors}
    return OnnxRuntime().build(model, threads=1, batch=batch)(feed)


def by_numpy(readout, present, windows, person=None) -> np.ndarray:
    table = {m.name: features(m, windows[m.name]) for m in SENSORS if m.name in present}
    return readout.log_probabilities(table, present, person)


@pytest.mark.parametrize("present", SETS, ids="-".join)
def test_the_graph_answers_as_numpy_for_every_set_of_sensors(plain, windows, present):
    for readout, tolerance in ((plain, TOLERANCE), (every_head(plain), COARSE)):
        got = by_graph(readout, present, windows, batch=None)
        np.testing.assert_allclose(got, by_numpy(readout, present, windows), atol=tolerance)


@pytest.mark.parametrize("sort", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_fixed_number_of_windows(plain, windows, batch, sort):
    readout = every_head(plain)
    some = {s: x[:batch] for s, x in windows.items()}
    for present in (NAMES, ("acc", "gyro"), ("temp", "age"), ("gyro",)):
        got = by_graph(readout, present, some, batch=batch, sort=sort)
        np.testing.assert_allclose(got, by_numpy(readout, present, some), atol=COARSE)


def test_features_are_standardised_by_what_is_given(personal, windows):
    readout = every_head(personal)
    assert readout.person_weight is not None
    person = person_moments({m.name: features(m, windows[m.name][:7]) for m in SENSORS})
    scales = {name: readout.parts.scales[name] for name in NAMES}
    own = [scale.of_person(person[name], readout.person_weight) for name, scale in scales.items()]
    whole = [(scale.mean, scale.inverse) for scale in scales.values()]
    for columns, known in ((own, person), (whole, None)):
        mean, inverse = (np.concatenate(column) for column in zip(*columns, strict=True))
        given = {"mean": mean, "inverse": inverse}
        got = by_graph(readout, NAMES, windows, batch=None, more=given)
        answer, table = np.split(got, [len(CLASSES)], axis=1)
        np.testing.assert_allclose(answer, by_numpy(readout, NAMES, windows, known), atol=COARSE)
        expected = np.concatenate([features(m, windows[m.name]) for m in SENSORS], axis=1)
        assert (np.isfinite(table) == np.isfinite(expected)).all()
        np.testing.assert_allclose(
            np.nan_to_num(table), np.nan_to_num(expected), atol=1e-4 * np.nanmax(np.abs(expected))
        )


@pytest.mark.parametrize("present", [FEW, FEW[:2], FEW[1:], FEW[:1]], ids="-".join)
def test_trees(with_trees, windows, present):
    assert with_trees.parts.trees
    for readout, tolerance in ((with_trees, TOLERANCE), (every_head(with_trees), COARSE)):
        got = by_graph(readout, present, windows, batch=None)
        np.testing.assert_allclose(got, by_numpy(readout, present, windows), atol=tolerance)


def test_trees_by_plain_operators(with_trees, windows):
    readout = every_head(with_trees)
    solved = readout.solve(FEW)
    model = write_readout(readout, solved, SENSORS, batch=None, fused=False)
    feed = {f"window.{s}": windows[s] for s in solved.sensors}
    expected = by_numpy(readout, solved.sensors, windows)
    got = OnnxRuntime().build(model, threads=1, batch=None)(feed)
    np.testing.assert_allclose(got, expected, atol=COARSE)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("present", [FEW, FEW[1:]], ids="-".join)
def test_boosted_trees(with_trees, windows, present, fused):
    boosted, rng = {}, np.random.default_rng(0)
    for names in (FEW, FEW[1:]):
        x = rng.normal(size=(90, sum(len(with_trees.parts.scales[s].mean) for s in names)))
        y = ((x[:, 0] > 0) ^ (x[:, 1] > 0)).astype(int) + (x[:, 2] > 0.5)
        boosted[names] = boost(x.astype(np.float32), y, len(CLASSES), rounds=12, seed=0)
    pool = np.insert(with_trees.pool, -1, 0.4, axis=1)
    readout = replace(with_trees, parts=replace(with_trees.parts, boosted=boosted), pool=pool)
    model = write_readout(readout, readout.solve(present), SENSORS, batch=None, fused=fused)
    feed = {f"window.{s}": windows[s] for s in present}
    got = OnnxRuntime().build(model, threads=1, batch=None)(feed)
    np.testing.assert_allclose(got, by_numpy(readout, present, windows), atol=COARSE)


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed here")
@pytest.mark.parametrize("batch", [1, None])
def test_openvino_answers_the_same(plain, windows, batch):
    from sentryfuse.engine.engines import OpenVino

    readout = every_head(plain)
    some = {s: x[:batch] for s, x in windows.items()}
    model = write_readout(readout, readout.solve(NAMES), SENSORS, batch=batch, fused=False)
    feed = {f"window.{s}": x for s, x in some.items()}
    got = OpenVino().build(model, threads=1, batch=batch)(feed)
    np.testing.assert_allclose(got, by_numpy(readout, NAMES, some), atol=COARSE)


def test_the_prior_alone(plain, windows):
    readout = replace(
        plain, pool=np.zeros_like(plain.pool) + (np.arange(plain.pool.shape[1]) == plain.pool.shape[1] - 1)
    )
    got = by_graph(readout, NAMES, windows, batch=None)
    np.testing.assert_allclose(got, by_numpy(readout, NAMES, windows), atol=1e-6)


def test_a_class_never_seen(windows):
    readout = every_head(fit(FEW[:2], classes=(*CLASSES, "fly"), normalise="population"))
    got = by_graph(readout, FEW[:2], windows, batch=None)
    np.testing.assert_allclose(got, by_numpy(readout, FEW[:2], windows), atol=COARSE)


def test_nothing_measured_is_answered(plain):
    readout = every_head(plain)
    blank = {
        m.name: np.full((2, m.length, m.n_channels), np.nan if m.may_miss else 3.0, np.float32)
        for m in SENSORS
    }
    got = by_graph(readout, NAMES, blank, batch=None)
    np.testing.assert_allclose(got, by_numpy(readout, NAMES, blank), atol=COARSE)


def test_long_windows_are_sorted_by_numpy(monkeypatch):
    monkeypatch.undo()
    assert not any(group.outside for group in alike(SENSORS, None))
    long = replace(SENSORS[-1], length=2000)
    assert alike([long, SENSORS[2]], 1) == [((long,), True), ((SENSORS[2],), False)]


def test_a_modality_that_does_not_fit_is_refused(plain):
    wrong = [replace(m, length=2) if m.name == "acc" else m for m in SENSORS]
    with pytest.raises(ConfigError, match="acc"):
        write_readout(plain, plain.solve(NAMES), wrong, batch=1, fused=True)
    with pytest.raises(ConfigError, match="gives None"):
        write_readout(plain, plain.solve(NAMES), SENSORS[1:], batch=1, fused=True)
