"""Laws of the strips: bounded, nothing lost that a column can show, and a viewer has what there is."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentryfuse.serve.strips import COLUMNS, MOST_CHANNELS, Strips
from sentryfuse.stream import Packet
from sentryfuse.types import Modality

pytestmark = pytest.mark.device

FAST = Modality("fast", 50.0, 100, tuple("abcdef"))
SLOW = Modality("slow", 1.0, 2, ("skin",), may_miss=True)
FIXED = Modality("fixed", 0.0, 1, ("age",))
MODALITIES = (FAST, SLOW, FIXED)


def packet(modality: Modality, values, received_s: float) -> Packet:
    made = np.repeat(np.asarray(values, np.float32)[:, None], modality.n_channels, axis=1)
    return Packet(modality.name, made, None, received_s)


class Viewer:
    """What the page keeps."""

    def __init__(self, strips: Strips) -> None:
        self.strips, self.turn = strips, -1
        self.told: dict[tuple[str, str, int, int], float | None] = {}

    def look(self) -> None:
        told = json.loads(json.dumps(self.strips.since(self.turn), allow_nan=False))
        self.turn = told["turn"]
        for name, sensor in told["sensors"].items():
            for side in ("low", "high"):
                for k, values in enumerate(sensor[side]):
                    for i, value in enumerate(values):
                        self.told[name, side, k, (told["first"] + i) % COLUMNS] = value


STEPS = st.lists(
    st.tuples(
        st.floats(0.0, 3.0),  # how long until the step
        st.lists(
            st.tuples(
                st.sampled_from([FAST, SLOW]),
                st.lists(st.floats(-1e6, 1e6, width=32) | st.just(np.nan), min_size=1, max_size=60),
                st.floats(0.0, 0.5),  # how long ago it arrived
            ),
            max_size=4,
        ),
        st.booleans(),
    ),
    max_size=12,
)


@given(STEPS, st.sampled_from([0.0, -3.0, 5e6]))
@settings(max_examples=60, deadline=None)
def test_a_strip_holds_least_and_most_of_its_columns_and_a_viewer_has_the_same(steps, now_s):
    strips = Strips(MODALITIES, 2.0)
    viewer, samples = Viewer(strips), []
    for wait_s, packets, looks in steps:
        now_s += wait_s
        given_packets = []
        for modality, values, ago_s in packets:
            made = packet(modality, values, now_s - ago_s)
            given_packets.append(made)
            back_s = np.arange(len(values) - 1, -1, -1) / modality.rate_hz
            columns = (made.received_s - back_s) // strips.column_s
            samples += [(modality.name, int(c), v) for c, v in zip(columns, values, strict=True)]
        strips.take(given_packets, now_s)
        if looks:
            viewer.look()
    strips.take([], now_s)
    viewer.look()
    head = int(now_s // strips.column_s)
    assert strips.head == head
    whole = strips.since(-1)
    assert (whole["first"], whole["head"]) == (head - COLUMNS + 1, head)
    for name in ("fast", "slow"):
        sensor = whole["sensors"][name]
        assert len(sensor["low"]) == min(MOST_CHANNELS, 6 if name == "fast" else 1)
        for i in range(COLUMNS):
            column = whole["first"] + i
            values = [v for n, c, v in samples if n == name and c == column and not np.isnan(v)]
            expected = (
                [float(f"{f(values):.4g}") if values else None for f in (min, max)] if values else [None] * 2
            )
            for k in range(len(sensor["low"])):
                assert [sensor["low"][k][i], sensor["high"][k][i]] == expected
                assert viewer.told[name, "low", k, column % COLUMNS] == expected[0]
                assert viewer.told[name, "high", k, column % COLUMNS] == expected[1]


def test_only_what_has_changed_is_told_again():
    strips = Strips(MODALITIES, 2.0)
    assert strips.since(-1)["sensors"] == {}
    strips.take([packet(FAST, [1.0], 100.0)], 100.0)
    first = strips.since(-1)
    assert len(first["sensors"]["fast"]["low"][0]) == COLUMNS
    strips.take([packet(FAST, np.arange(25), 100.5)], 100.5)  # fills columns that were told
    later = strips.since(first["turn"])
    assert later["first"] <= first["head"]
    assert len(later["sensors"]["fast"]["low"][0]) <= 0.5 / strips.column_s + 2
    assert len(strips.since(later["turn"])["sensors"]["fast"]["low"][0]) == 1


def test_what_makes_no_sense_draws_nothing_and_an_hour_in_one_packet_is_cut():
    strips = Strips(MODALITIES, 2.0)
    odd = [
        Packet("fast", np.zeros((1, 2), np.float32), None, 0.0),
        Packet("fast", np.zeros((0, 6), np.float32), None, 0.0),
        Packet("none", np.zeros((1, 1), np.float32), None, 0.0),
        Packet("fast", np.full((1, 6), np.inf, np.float32), None, 0.0),
        "nothing",
    ]
    strips.take(odd, 0.0)  # type: ignore[arg-type]
    told = strips.since(-1)["sensors"]
    assert {x for values in told["fast"]["low"] + told["fast"]["high"] for x in values} == {None}
    strips.take([packet(FAST, np.arange(180_000), 3600.0), packet(FIXED, [40], 3600.0)], 3600.0)
    told = strips.since(-1)["sensors"]
    assert min(told["fast"]["low"][0]) >= 180_000 - 50 * 10 - 1
    assert told["fixed"]["latest"] == [40]
