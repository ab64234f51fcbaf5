"""Cells become numbers, moments and words."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfuse.errors import DataError
from sentryfuse.recordings.columns import NO_TIME, UNITS_NS, by_size, moments, numbers, word, words

A_MOMENT = 1_717_149_600_250_000_000  # 2024-05-31T10:00:00.250Z
ISO = {
    "zulu": "2024-05-31T10:00:00.250Z",
    "another zone": "2024-05-31T12:00:00.250+02:00",
    "a zone without colon": "2024-05-31T12:00:00.250+0200",
    "a short zone": "2024-05-31T12:00:00.250+02",
    "a space before the zone": "2024-05-31 12:00:00.250 +02:00",
    "a comma": "2024-05-31T10:00:00,250Z",
    "no zone": "2024-05-31T10:00:00.250",
    "a space": "2024-05-31 10:00:00.25",
    "slashes": "2024/05/31 10:00:00.25",
    "UTC": "2024-05-31 10:00:00.25 UTC",
    "more digits than nanoseconds": "2024-05-31T10:00:00.2500000000001",
}


@pytest.mark.parametrize("text", ISO.values(), ids=ISO)
def test_iso_8601_is_read_in_every_form(text):
    assert moments("t", "time", pa.array([text, None, " "]), "iso").tolist() == [A_MOMENT, NO_TIME, NO_TIME]


@given(
    st.datetimes(datetime(1950, 1, 1), datetime(2200, 1, 1)),
    st.integers(-14 * 60, 14 * 60),
)
def test_iso_8601_keeps_every_moment(moment, minutes):
    zone = timezone(timedelta(minutes=minutes))
    text = moment.replace(tzinfo=zone).isoformat(timespec="microseconds")
    since = moment.replace(tzinfo=zone) - datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017
    micros = (since.days * 86400 + since.seconds) * 10**6 + since.microseconds
    assert moments("t", "time", pa.array([text]), "iso")[0] == micros * 1000


@given(st.integers(0, 4 * 10**18), st.sampled_from(["s", "ms", "us", "ns"]))
def test_whole_numbers_keep_every_digit_in_every_unit(ns, unit):
    whole = ns // UNITS_NS[unit]
    for column in (pa.array([whole]), pa.array([str(whole)])):
        assert moments("t", "time", column, unit)[0] == whole * UNITS_NS[unit]


def test_fractions_of_seconds_since_1970_are_good_to_a_microsecond():
    found = moments("t", "time", pa.array(["1717149600.25", "1717149600,5", "1717149601"]), "s")
    assert np.abs(found - np.array([A_MOMENT, A_MOMENT + 250_000_000, A_MOMENT + 750_000_000])).max() < 1000


def test_moments_of_parquet_and_frames_need_no_unit():
    at = datetime(2024, 5, 31, 10, 0, 0, 250_000)
    for kind in (pa.timestamp("ms"), pa.timestamp("us", "Europe/Berlin"), pa.timestamp("ns")):
        assert moments("t", "time", pa.array([at, None], kind), "iso").tolist() == [A_MOMENT, NO_TIME]
    assert moments("t", "time", pa.array([timedelta(seconds=2)]), "iso")[0] == 2 * 10**9


@pytest.mark.parametrize(
    ("cells", "unit", "said"),
    [
        (["2024-05-31T10:00:00Z", "2024-05-31T10:00:00"], "iso", "some have none"),
        (["31.05.2024 10:00"], "iso", "not ISO 8601"),
        (["noon"], "s", "no number of s"),
        ([1.0], "iso", "say their unit"),
        ([1_717_149_600_250], "s", "2262"),
        ([1e300], "s", "2262"),
    ],
)
def test_times_that_cannot_be_are_refused(cells, unit, said):
    with pytest.raises(DataError, match=said):
        moments("t", "time", pa.array(cells), unit)


def test_numbers_beyond_float32_and_infinities_are_not_measured():
    np.testing.assert_array_equal(
        numbers("t", "x", pa.array([1.0, None, float("inf"), 1e300])), [1, np.nan, np.nan, np.nan]
    )
    assert numbers("t", "x", pa.array([True, False])).tolist() == [1, 0]
    with pytest.raises(DataError, match="'high'"):
        numbers("t", "x", pa.array(["high"]))


def test_labels_are_names_or_numbers_and_one_spelling_is_one_label():
    codes, names = words(pa.array(["walk", None, " walk ", "", "run"]))
    assert [names[c] if c >= 0 else None for c in codes] == ["walk", None, "walk", None, "run"]
    codes, names = words(pa.array([1.0, 2.0, None, 1.0]))
    assert names == ["1", "2"]
    assert codes.tolist() == [0, 1, -1, 0]
    assert [word(v) for v in (3, 3.0, "3", "3.0", "007", True, None, float("nan"))] == [
        "3",
        "3",
        "3",
        "3",
        "007",
        "true",
        "",
        "",
    ]
    assert sorted(["10", "9", "b", "a"], key=by_size) == ["9", "10", "a", "b"]
