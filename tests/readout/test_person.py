from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfuse.errors import ConfigError
from sentryfuse.readout import PersonFeatures, Readout, fit_readout, person_moments

pytestmark = pytest.mark.device

SENSORS = ("acc", "eda", "temp")
SIZES = {"acc": 4, "eda": 3, "temp": 2}


def table(n: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {s: rng.normal(i, 1 + i, (n, SIZES[s])).astype(np.float32) for i, s in enumerate(SENSORS)}


def fitted(how: Literal["person", "population"]) -> Readout:
    y = np.arange(60) % 2
    return fit_readout(table(60, 0), y, np.arange(60) // 10, ("a", "b"), trees=False, normalise=how).readout


@pytest.fixture(scope="module")
def readout() -> Readout:
    return fitted("person")


def scale_of(readout: Readout, seen: dict[str, np.ndarray], sensors: tuple[str, ...]) -> np.ndarray:
    moments = person_moments(seen)
    assert readout.person_weight is not None
    own = [readout.parts.scales[s].of_person(moments[s], readout.person_weight) for s in sensors]
    return np.concatenate(own, axis=1)


@given(
    seed=st.integers(0, 99),
    visits=st.lists(st.tuples(st.sets(st.sampled_from(SENSORS), min_size=1), st.integers(1, 3)), max_size=6),
    gaps=st.floats(0, 1),
)
def test_gathered_window_by_window_is_as_all_at_once(readout, seed, visits, gaps):
    rng = np.random.default_rng(seed)
    person = PersonFeatures(readout)
    seen = {s: np.zeros((0, n), np.float32) for s, n in SIZES.items()}
    for visit, (sensors, n) in enumerate(visits):
        on = tuple(s for s in SENSORS if s in sensors)
        new = {s: table(n, 100 * seed + visit)[s] for s in on}
        for x in new.values():
            x[rng.random(x.shape) < gaps] = rng.choice([np.nan, np.inf])
        person.see(on, np.concatenate([*new.values()], axis=1))
        for s, x in new.items():
            seen[s] = np.concatenate([seen[s], np.where(np.isfinite(x), x, np.nan)])
        for some in (SENSORS, on, on[::-1]):
            np.testing.assert_allclose(
                person.scale(some), scale_of(readout, seen, some), rtol=1e-5, atol=1e-6
            )


def test_of_nobody_it_says_what_the_population_is(readout):
    mean, inverse = PersonFeatures(readout).scale(SENSORS)
    scales = [readout.parts.scales[s] for s in SENSORS]
    np.testing.assert_allclose(mean, np.concatenate([s.mean for s in scales]), rtol=1e-6)
    np.testing.assert_allclose(inverse, np.concatenate([s.inverse for s in scales]), rtol=1e-6)


def test_a_readout_that_knows_no_people_has_nothing_to_gather():
    with pytest.raises(ConfigError, match="population"):
        PersonFeatures(fitted("population"))
