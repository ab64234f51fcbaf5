from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfuse.stream.packet import LATEST_S, Packet, is_well_formed
from sentryfuse.stream.payload import MAX_PAYLOAD, read_payload
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
        text(values=["1", "2"]),
        text(values=[[1, "2"]]),
        text(values=[[None, "2"]]),
        text(values=[[None, True]]),
        text(values=[True, False]),
        text(values={"x": 1}),
        text(t="now", values=[1, 2]),
        text(t=[1], values=[[1, 2], [3, 4]]),
        text(t=[[1]], values=[1, 2]),
        text(t=None, values=[1, 2], more=1),
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
    assert parsed(payload, OTHER, binary=False) is None


@pytest.mark.parametrize(
    "payload", [b"", b"1234", bytes(8), bytes(12), bytes(8 + 5), struct.pack("<d", 0) + bytes(MAX_PAYLOAD)]
)
def test_binary_that_makes_no_sense_is_refused(payload):
    assert parsed(payload, OTHER, binary=True) is None


def test_numbers_too_large_become_infinite_and_are_judged_later():
    values, _ = parsed(b'{"values": [1e300, -1e999]}', OTHER, binary=False)
    assert np.isinf(values).all()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["t", "values", "x"]), inner),
    max_leaves=12,
)


@given(st.one_of(st.binary(max_size=64), JSON.map(lambda data: json.dumps(data).encode())), st.booleans())
def test_whatever_comes_is_refused_or_a_well_formed_packet(payload, binary):
    read = read_payload(payload, OTHER, binary=binary)
    if read is not None:
        packet = Packet("gyro", read[0], read[1], 0.0)
        sane = packet.times_s is None or (abs(packet.times_s) <= LATEST_S).all()
        assert is_well_formed(packet, {"gyro": OTHER}) == sane
