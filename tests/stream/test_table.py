from __future__ import annotations

import numpy as np
import pytest

from sentryfuse.errors import DataError
from sentryfuse.stream.table import read_csv
from tests.stream.feeding import OTHER, SLOW, STATIC

pytestmark = pytest.mark.device

SENSORS = (OTHER, SLOW, STATIC)
HEADER = "time_s,gyro.x,gyro.y,temp.skin\n"


def written(tmp_path, text):
    path = tmp_path / "recording.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_each_sensor_keeps_its_own_rows(tmp_path):
    path = written(tmp_path, HEADER + "0,1,2,30\n0.02,3,4,\n0.04,5,,\n0.25,,,31.5\n0.26,7,nan,\n")
    found = read_csv(path, SENSORS)
    assert set(found) == {"gyro", "temp"}
    assert found["gyro"][0].tolist() == [0, 0.02, 0.04, 0.26]
    assert np.array_equal(
        found["gyro"][1], np.array([[1, 2], [3, 4], [5, np.nan], [7, np.nan]], np.float32), equal_nan=True
    )
    assert found["temp"][0].tolist() == [0, 0.25]
    assert found["temp"][1].dtype == np.float32


def test_columns_may_stand_in_any_order_with_a_mark_at_the_front(tmp_path):
    path = written(tmp_path, "\ufeffgyro.y, gyro.x,time_s\n2,1,0\n4,3,1\n")
    assert read_csv(path, SENSORS)["gyro"][1].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "time_s"),
        ("gyro.x,gyro.y\n1,2\n", "time_s"),
        ("time_s,gyro.x\n0,1\n", "gyro.y"),
        ("time_s,ecg.lead\n0,1\n", "ecg.lead"),
        ("time_s,gyro.x,gyro.x,gyro.y\n0,1,1,1\n", "twice"),
        (HEADER + "0,1,2\n", "columns"),
        (HEADER + "0,1,2,3\n1,1,2\n", "not a table"),
        (HEADER + "0,one,2,3\n", "not a table"),
        (HEADER + "1,1,2,3\n0,1,2,3\n", "rise"),
        (HEADER + "0,1,2,3\n0,1,2,3\n", "rise"),
        (HEADER + "inf,1,2,3\n", "finite"),
        (HEADER + ",1,2,3\n", "finite"),
        (HEADER + "0,,,\n", "no sample"),
        (HEADER, "no sample"),
        ("time_s\n0\n", "no sample"),
        ('"a\0b', "unknown column"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_in_one_sentence(tmp_path, text, said):
    with pytest.raises(DataError, match=said) as caught:
        read_csv(written(tmp_path, text), SENSORS)
    assert "\n" not in str(caught.value)


def test_what_is_no_text_or_no_file_is_refused(tmp_path):
    path = tmp_path / "recording.csv"
    with pytest.raises(DataError, match="no file"):
        read_csv(path, SENSORS)
    path.write_bytes(bytes(range(256)) * 50)
    with pytest.raises(DataError):
        read_csv(path, SENSORS)
