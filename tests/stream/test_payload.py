from __future__ import annotations

import json
import struct
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfuse.stream.packet import LATEST_S, Packet, is_well_formed
from sentryfuse.stream.payload import MAX_PAYLOAD, Fields, UnreadableError, read_payload
from sentryfuse.types import Modality
from tests.stream.feeding import OTHER, STATIC

pytestmark = pytest.mark.device


def parsed(payload, modality, *, binary) -> Any:
    return read_payload(payload, modality, binary=binary)


def text(**message):
    return json.dumps(message).encode()


def test_rows_with_the_time_of_the_first():
    values, times = parsed(text(t=10.0, values=[[1, 2], [3, None], [5.5, 6]]), OTHER, binary=False)
    assert np.array_equal(values, np.array([[1, 2], [3, np.nan], [5.5, 6]], np.float32), equal_nan=True)
    assert values.dtype == np.float32
    assert np.allclose(times, [10, 10.02, 10.04])


def test_a_time_for_each_row_one_row_alone_and_no_time():
    _, times = parsed(text(t=[1, 2.5], values=[[1, 2], [3, 4]]), OTHER, binary=False)
    assert times.tolist() == [1, 2.5]
    values, times = parsed(text(values=[1, 2]), OTHER, binary=False)
    assert values.tolist() == [[1, 2]]
    assert times is None
    values, times = parsed(text(t=3, values=[40, None]), STATIC, binary=False)
    assert times.tolist() == [3]
    assert np.isnan(values[0, 1])


def test_binary_is_a_time_and_floats():
    body = np.arange(6, dtype="<f4")
    values, times = parsed(struct.pack("<d", 2.0) + body.tobytes(), OTHER, binary=True)
    assert values.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert np.allclose(times, [2, 2.02, 2.04])
    assert parsed(struct.pack("<d", float("nan")) + body.tobytes(), OTHER, binary=True)[1] is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"values": [[1, 2]',
        text(t=1),
        text(values=[]),
        text(values=[[]]),
        text(values=[[1, 2, 3]]),
        text(values=[[1, 2], [3]]),
        text(values=[[[1, 2]]]),
        text(values=5),
        text(values=None),
        text(values=[[None, True]]),
        text(values=[True, False]),
        text(values=["a", "2"]),
        text(ts=1, time=2, values=[1, 2]),
        text(value=[1, 2], data=[1, 2]),
        text(x=[1, 2], y=[1]),
        text(values=[1, 2, 3]),
        text(x=1),
        b"5",
        text(values={"x": 1}),
        text(t="now", values=[1, 2]),
        text(t=[1], values=[[1, 2], [3, 4]]),
        text(t=[[1]], values=[1, 2]),
        b'{"t": NaN, "values": [1, 2]}',
        b'{"t": Infinity, "values": [1, 2]}',
        b'{"values": [1, ' + b"9" * 5000 + b"]}",
        b'{"values": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"values": [1, 2], "values": [1, 2, 3]}',
        text(values=[[0, 0]] * MAX_PAYLOAD),
    ],
    ids=lambda payload: repr(payload[:24]),
)
def test_messages_that_make_no_sense_are_refused(payload):
    with pytest.raises(UnreadableError):
        parsed(payload, OTHER, binary=False)


@pytest.mark.parametrize(
    "payload", [b"", b"1234", bytes(8), bytes(12), bytes(8 + 5), struct.pack("<d", 0) + bytes(MAX_PAYLOAD)]
)
def test_binary_that_makes_no_sense_is_refused(payload):
    with pytest.raises(UnreadableError):
        parsed(payload, OTHER, binary=True)


def test_numbers_too_large_become_infinite_and_are_judged_later():
    values, _ = parsed(b'{"values": [1e300, -1e999]}', OTHER, binary=False)
    assert np.isinf(values).all()


KEYS = ["t", "ts", "time_ms", "time", "values", "data", "x", "y", "X"]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["1", "1e400", "2025-11-28T20:33:37Z", "9999-12-31T23:59:60Z", "NaN"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@given(st.one_of(st.binary(max_size=64), JSON.map(lambda data: json.dumps(data).encode())), st.booleans())
def test_whatever_comes_is_refused_or_a_well_formed_packet(payload, binary):
    try:
        read = read_payload(payload, OTHER, binary=binary)
    except UnreadableError:
        return
    packet = Packet("gyro", read[0], read[1], 0.0)
    sane = packet.times_s is None or (abs(packet.times_s) <= LATEST_S).all()
    assert is_well_formed(packet, {"gyro": OTHER}) == sane


ONE = Modality("hr", 1.0, 4, ("bpm",))


@pytest.mark.parametrize(
    ("message", "values", "times"),
    [
        ({"ts": 10.0, "values": [[1, 2], [3, 4]]}, [[1, 2], [3, 4]], [10, 10.02]),
        ({"t": 10.0, "values": [["1", "2.5"], ["", "NaN"]]}, [[1, 2.5], [np.nan, np.nan]], [10, 10.02]),
        ({"t": 10.0, "values": [1, 2], "seq": 4, "device": "a"}, [[1, 2]], [10]),
        ({"t": 1764362017123, "values": [1, 2]}, [[1, 2]], [1764362017.123]),
        ({"t": [1764362017123000, 1764362017143000], "data": [[1, 2], [3, 4]]}, [[1, 2], [3, 4]],
         [1764362017.123, 1764362017.143]),
        ({"time_ms": 5000, "values": [1, 2]}, [[1, 2]], [5]),
        ({"time": "2025-11-28T20:33:37.5Z", "values": [1, 2]}, [[1, 2]], [1764362017.5]),
        ({"t": "10.5", "values": [1, 2]}, [[1, 2]], [10.5]),
        ({"X": 1, "y": 2, "t": 3}, [[1, 2]], [3]),
        ({"x": [1, 3], "y": [2, 4], "t": 3}, [[1, 2], [3, 4]], [3, 3.02]),
        ({"t": 3, "values": [{"x": 1, "y": 2}, {"y": 4, "x": 3}]}, [[1, 2], [3, 4]], [3, 3.02]),
        ({"t": 3, "values": {"x": [1, 3, 5], "y": [2, 4, 6]}}, [[1, 2], [3, 4], [5, 6]], [3, 3.02, 3.04]),
        ({"t": 3, "values": [1, 2, 3, 4]}, [[1, 2], [3, 4]], [3, 3.02]),
        ({"t": 3, "values": [[1, 3, 5], [2, 4, 6]]}, [[1, 2], [3, 4], [5, 6]], [3, 3.02, 3.04]),
        ([[1, 2], [3, 4]], [[1, 2], [3, 4]], None),
    ],
)  # fmt: skip
def test_what_means_one_thing_only_is_read(message, values, times):
    got, stamps = parsed(json.dumps(message).encode(), OTHER, binary=False)
    assert np.array_equal(got, np.array(values, np.float32), equal_nan=True)
    assert (stamps is None) == (times is None)
    if times is not None:
        assert np.allclose(stamps, times, rtol=0, atol=1e-6)


@pytest.mark.parametrize("payload", [b"21.5", b'"21.5"', b"[21.5]", b'{"value": 21.5}', b'{"bpm": "21.5"}'])
def test_a_number_is_enough_for_a_sensor_of_one_channel(payload):
    values, times = parsed(payload, ONE, binary=False)
    assert (values.tolist(), times) == ([[21.5]], None)


def test_names_and_units_can_be_said():
    message = text(clock=5000, raw=[1, 2], time=7)
    values, times = read_payload(message, OTHER, binary=False, fields=Fields.of("clock:ms", "raw"))
    assert times is not None
    assert (values.tolist(), times.tolist()) == ([[1, 2]], [5])
    with pytest.raises(UnreadableError, match="no key 'uhr'"):
        read_payload(message, OTHER, binary=False, fields=Fields.of("uhr", "raw"))
    assert Fields.of(":us", None) == Fields(None, "us", None)


@pytest.mark.parametrize("key", ["_" * 100_000, "x" + " ." * 50_000, "(" * 100_000, "s" * 100_000])
def test_a_key_as_long_as_a_message_is_looked_at_in_no_time(key):
    started = time.process_time()
    with pytest.raises(UnreadableError, match="key"):
        parsed(text(**{key: 1}), OTHER, binary=False)
    assert time.process_time() - started < 1
