from __future__ import annotations

import string

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
        (HEADER + "0,1,2,3\n1,1,2,3\n0.5,1,2,3\n", "rise"),
        (HEADER + "inf,1,2,3\n", "finite"),
        (HEADER + ",1,2,3\n", "finite"),
        (HEADER + "0,,,\n", "no sample"),
        (HEADER, "no sample"),
        ("time_s\n0\n", "no sample"),
        ('"a\0b', "no column time_s"),
        ("time,timestamp,gyro.x,gyro.y\n0,0,1,2\n", "several columns of times"),
        ("time,gyro.x,gyro.y\n0,1,2\n500,1,3\n", "does not tell its unit"),
        ("time_s,gyro.x,gyro.y,gyro.z\n0,1,2,3\n", "unknown column 'gyro.z'"),
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


FORMS = {
    "plain": "time_s,gyro.x,gyro.y\n{0},1,2\n{1},3,4\n",
    "quoted": '"time_s","gyro.x","gyro.y"\r\n"{0}","1","2"\r\n"{1}","3","4"\r\n',
    "labels": "time_s,activity,gyro.x,gyro.y,subject\n{0},walking,1,2,P 1\n{1},,3,4,\n",
    "semicolons": "time_s;gyro.x;gyro.y\n{0};1,0;2\n{1};3,0;4\n",
    "tabs": "time_s\tgyro.x\tgyro.y\n{0}\t1\t2\n{1}\t3\t4\n",
    "comments": "# by a logger\n\n# v 2\ntime_s,gyro.x,gyro.y\n{0},1,2\n# paused\n{1},3,4\n",
    "numpy": "# time_s gyro\n# time_s,gyro.x,gyro.y\n{0},1,2\n{1},3,4\n",
    "excel": "sep=;\ntime_s;gyro.x;gyro.y\n{0};1;2\n{1};3;4\n",
    "written otherwise": "time_s,Gyro_X,gyro/y\n{0},1,2\n{1},3,4\n",
    "nothing": "time_s,gyro.x,gyro.y\n{0},1,2\n0.01,NA,null\n{1},3,4\n",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_what_loggers_write_differently_is_one_table(tmp_path, form, encoding, caplog):
    path = tmp_path / "recording.csv"
    path.write_bytes(FORMS[form].format(0, 0.02).encode(encoding))
    times, values = read_csv(path, SENSORS)["gyro"]
    assert times.tolist() == [0, 0.02]
    assert values.tolist() == [[1, 2], [3, 4]]
    assert ("activity, subject" in caplog.text) == (form == "labels")


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("time_s", "1764362017.12", "1764362017.14"),
        ("time_ms", "7", "27"),
        ("Time [ms]", "7", "27"),
        ("timestamp", "1764362017120", "1764362017140"),
        ("ts", "1764362017120000", "1764362017140000"),
        ("time_s", "1764362017120", "1764362017140"),
        ("uptime", "604800250", "604800270"),
        ("datetime", "2025-11-28T20:33:37.12Z", "2025-11-28 20:33:37.14+00:00"),
        ("time", "2025-11-28 20:33:37.1200000", "2025-11-28 20:33:37.1400000"),
    ],
)
def test_times_are_seconds_whatever_their_unit(tmp_path, name, first, second):
    path = written(tmp_path, f"{name},gyro.x,gyro.y\n{first},1,2\n{second},3,4\n")
    times, _ = read_csv(path, SENSORS)["gyro"]
    assert times[1] - times[0] == pytest.approx(0.02, abs=1e-6)


def test_the_column_of_times_can_be_said(tmp_path):
    path = written(tmp_path, "when,time,gyro.x,gyro.y\n3,9,1,2\n500,9,3,4\n")
    assert read_csv(path, SENSORS, time="when:ms")["gyro"][0].tolist() == [0.003, 0.5]
    with pytest.raises(DataError, match="no column 'then'"):
        read_csv(path, SENSORS, time="then:ms")


def test_rows_written_twice_count_once_and_coarse_times_are_spread(tmp_path):
    path = written(tmp_path, "time_s,gyro.x,gyro.y\n0,1,2\n0,1,2\n0,1,3\n0.04,1,4\n0.04,1,5\n")
    times, values = read_csv(path, SENSORS)["gyro"]
    assert np.allclose(times, [0, 0.02, 0.04, 0.06])
    assert values[:, 1].tolist() == [2, 3, 4, 5]


PLAIN = "time_s time_ms t gyro.x gyro.y temp.skin label 0 1 2.5 1e3 1e18 -4 inf nan NA x 1,5 # \0"
ODD = ["", "é", '"', "2025-11-28T20:33:37Z", "2025-11-28 20:33", "9999-12-31 23:59"]
CELLS = st.sampled_from([*PLAIN.split(" "), *ODD])
TABLES = st.tuples(
    st.lists(st.lists(CELLS, max_size=5), max_size=6),
    st.sampled_from(",;\t|"),
    st.sampled_from(["\n", "\r\n"]),
).map(lambda parts: parts[2].join(parts[1].join(row) for row in parts[0]).encode())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=80),
        st.text(string.printable, max_size=80).map(str.encode),
        TABLES,
        TABLES.map(lambda rest: b"time_s,gyro.x,gyro.y,temp.skin\n" + rest),
    )
)
def test_whatever_a_file_holds_is_refused_or_samples_in_order(tmp_path, content):
    path = tmp_path / "recording.csv"
    path.write_bytes(content)
    try:
        found = read_csv(path, SENSORS)
    except DataError:
        return
    for name, (times, values) in found.items():
        modality = next(m for m in SENSORS if m.name == name)
        assert values.shape == (len(times), modality.n_channels)
        assert len(times)
        assert np.isfinite(times).all()
        assert (np.diff(times) > 0).all()
