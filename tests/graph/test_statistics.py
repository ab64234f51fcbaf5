from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime as ort
import pytest

from sentryfuse.graph.statistics import write_alike, write_turned
from sentryfuse.graph.writer import Graph
from sentryfuse.statistics import feature_names, features, order_statistics
from sentryfuse.types import Modality

pytestmark = pytest.mark.device


def sensor(t: int, c: int, *, may_miss: bool = False) -> Modality:
    return Modality("s", 10.0, t, tuple(f"c{i}" for i in range(c)), may_miss)


def ask(model: bytes, feed: dict[str, np.ndarray]) -> np.ndarray:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    answer: np.ndarray = session.run(None, feed)[0]
    return answer


def by_graph(m: Modality, windows: Sequence[np.ndarray], *, sort: bool, fused: bool = True) -> np.ndarray:
    """Features of sensors that are alike, one after the other."""
    graph = Graph(1, batch=None, fused=fused)
    feed: dict[str, np.ndarray] = {}
    if sort or m.length == 1:
        feed = {f"x{i}": x for i, x in enumerate(windows)}
        y = write_alike(graph, m, [*feed])
    else:
        turned = np.concatenate(windows).transpose(0, 2, 1)
        feed = {"x": turned, "order": order_statistics(turned, may_miss=m.may_miss)}
        y = write_turned(graph, m, "x", "order")
    graph.op("Identity", y, writes="y")
    shapes = {name: ("batch", *x.shape[1:]) for name, x in feed.items()}
    return ask(graph.finish(shapes, ("y", ("rows", len(feature_names(m))))), feed)


def check(m: Modality, x: np.ndarray, found: np.ndarray) -> None:
    """Equal up to rounding of the largest value of the window, known where features are known."""
    expected = features(m, x)
    assert found.shape == expected.shape
    assert (np.isfinite(found) == np.isfinite(expected)).all()
    # logarithms, shares and correlations are numbers about 1; the others are in the window's unit
    plain = ("log_std", "band", "centroid", "share", "age", "corr")
    of_one = np.array([name.split(".")[-1].startswith(plain) for name in feature_names(m)])
    size = np.nanmax(np.abs(x), axis=(1, 2), initial=1e-30)[:, None]
    scale = np.where(of_one, 1.0, size)
    gap = np.abs(np.nan_to_num(found) - np.nan_to_num(expected)) / scale
    worst = gap.max(axis=0).argmax()
    assert gap.max() < 1e-4, f"{feature_names(m)[worst]}: {gap.max()}"
    near = np.abs(found - expected)[:, ~of_one] <= 2e-6 * size + 1e-4 * np.abs(expected)[:, ~of_one]
    assert (near | ~np.isfinite(expected[:, ~of_one])).all()


@pytest.mark.parametrize("sort", [True, False])
@pytest.mark.parametrize("c", [1, 3, 12, 64])
@pytest.mark.parametrize("t", [1, 2, 7, 17, 64, 125, 1000])
@pytest.mark.parametrize("may_miss", [False, True])
def test_features_are_those_of_numpy(t, c, may_miss, sort, rng):
    m = sensor(t, c, may_miss=may_miss)
    x = windows_of(m, rng, 4)
    check(m, x, by_graph(m, [x], sort=sort))


def windows_of(m: Modality, rng: np.random.Generator, n: int) -> np.ndarray:
    x = rng.normal(size=(n, m.length, m.n_channels)).cumsum(axis=1).astype(np.float32)
    if m.may_miss:
        x[rng.random(x.shape) < 0.3] = np.nan
        x[1, :, 0] = np.nan
        x[-1, 1:, -1] = np.nan
    return x


@pytest.mark.parametrize("t", [640, 1024, 1500, 1920, 6000])
@pytest.mark.parametrize("may_miss", [False, True])
def test_long_windows(t, may_miss, rng):
    m = sensor(t, 2, may_miss=may_miss)
    x = windows_of(m, rng, 2)
    check(m, x, by_graph(m, [x], sort=False))


@pytest.mark.parametrize("may_miss", [False, True])
@pytest.mark.parametrize(("gain", "offset"), [(1.0, 1e3), (1e-9, 0.0), (1e-3, 1.0), (1e6, 0.0), (0.0, 3.0)])
def test_offsets_and_units(gain, offset, may_miss, rng):
    m = sensor(125, 3, may_miss=may_miss)
    x = (windows_of(m, rng, 5) * np.float32(gain) + np.float32(offset)).astype(np.float32)
    x[:, :, 1] = np.where(np.isnan(x[:, :, 1]), np.nan, offset)  # a channel that never changes
    check(m, x, by_graph(m, [x], sort=False))
    check(m, x, by_graph(m, [x], sort=True))


@pytest.mark.parametrize(
    "shape", [(125, 9, False), (20, 2, True), (1, 3, False), (1, 2, True), (300, 1, False)]
)
def test_sensors_that_are_alike_are_done_together(shape, rng):
    t, c, may_miss = shape
    m = sensor(t, c, may_miss=may_miss)
    windows = [windows_of(m, rng, 3) * (i + 1) for i in range(3)]
    found = by_graph(m, windows, sort=False)
    for x, own in zip(windows, np.split(found, 3), strict=True):
        check(m, x, own)


def test_the_same_by_plain_operators(rng):
    for m in (sensor(64, 3), sensor(64, 2, may_miss=True)):
        x = windows_of(m, rng, 3)
        check(m, x, by_graph(m, [x], sort=True, fused=False))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
