"""Channels are found by name or refused by name, whatever a stream says of itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfuse.errors import ConfigError
from sentryfuse.stream.description import Description, columns_of, units_asked
from sentryfuse.types import Modality

pytestmark = pytest.mark.device

NAMES = ("x", "y", "z [g]", "Left-Wrist", "temp (°C)")
ACC = Modality("acc", 100.0, 50, NAMES)


def columns(labels=(), units=(), n=None, *, asked="", by_label=True, modality=ACC):
    given_units = units_asked(asked, (modality,))
    stream = Description(tuple(labels), tuple(units))
    n_channels = len(labels) if n is None else n
    return columns_of(stream, n_channels, modality, units=given_units, by_label=by_label)


@given(st.permutations(range(5)), st.sampled_from(["", "acc_", "ACC/", "acc."]), st.lists(st.just("extra")))
def test_any_order_with_more_beside_is_put_into_the_models(order, front, more):
    labels = [front + NAMES[i].upper() for i in order] + more
    assert [order[c] for c in columns(labels)] == [0, 1, 2, 3, 4]


@given(st.lists(st.text(max_size=8), max_size=8), st.lists(st.text(max_size=8), max_size=8), st.booleans())
def test_whatever_is_said_the_channels_are_found_or_refused(labels, units, by_label):
    found: tuple[int, ...] = ()
    said = ""
    try:
        found = columns(labels, units, by_label=by_label)
    except ConfigError as error:
        said = str(error)
    assert said.isprintable()
    assert bool(said) != bool(found)
    assert len(set(found)) == len(found)
    assert all(0 <= c < len(labels) for c in found)


def test_units_are_compared_where_both_sides_say_one():
    assert columns([], ["m/s2"] * 5, 5, asked="acc:m/s^2", modality=Modality("acc", 1.0, 1, tuple("abcde")))
    assert columns(["x", "y", "z (gravity)", "left wrist", "temp [C]"])
    with pytest.raises(ConfigError, match=r"gives z .g. in mg, the model knows acc in g"):
        columns(["x", "y", "z (mg)", "left wrist", "temp"])
    with pytest.raises(ConfigError, match=r"gives temp .°C. in F"):
        columns([], ["", "", "", "", "F"], 5)
    emg = Modality("emg", 1000.0, 10, ("emg",))
    assert columns(["EMG"], ["microvolts"], asked="emg:uV", modality=emg) == (0,)
    with pytest.raises(ConfigError, match="gives emg in MV, the model knows emg in mV"):
        columns(["EMG"], ["MV"], asked="emg:mV", modality=emg)


@pytest.mark.parametrize(
    ("text", "said"),
    [("acc", "names no sensor and unit"), ("acc:", "names no sensor"), ("ecg:mV", "knows no 'ecg'")],
)
def test_units_that_cannot_be_read_are_a_sentence(text, said):
    with pytest.raises(ConfigError, match=said):
        units_asked(text, (ACC,))
