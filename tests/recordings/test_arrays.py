"""`sf.make_windows`: frames, dictionaries and arrays give what files give."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sentryfuse as sf
from sentryfuse.errors import ConfigError, DataError
from sentryfuse.recordings import make_file, make_recipe
from tests.loggers import LABELS, label_at, rows


def same(one, other):
    assert [(m.name, m.rate_hz, m.length) for m in one.modalities] == [
        (m.name, m.rate_hz, m.length) for m in other.modalities
    ]
    for name in one.names:
        np.testing.assert_array_equal(one.raw[name], other.raw[name])
    np.testing.assert_array_equal(one.y, other.y)
    np.testing.assert_array_equal(one.split, other.split)
    np.testing.assert_array_equal(one.subject, other.subject)
    assert one.classes == other.classes


@pytest.fixture(scope="module")
def frame():
    return pd.DataFrame(rows())


@pytest.fixture(scope="module")
def windows(frame):
    return sf.make_windows(frame, window_s=2, hop_s=1, time="time_s", label="label", subject="subject")


def test_a_frame_of_pandas_becomes_windows(windows):
    assert windows.names == ("acc", "hr")
    assert [(m.rate_hz, m.length) for m in windows.modalities] == [(20.0, 40), (2.0, 4)]
    assert set(windows.classes) == set(LABELS)
    assert len(np.unique(windows.subject)) == 3
    assert set(windows.split.tolist()) == {0, 1, 2}


def test_polars_arrow_and_guessed_columns_give_the_same(frame, windows):
    for other in (pl.from_pandas(frame), pa.Table.from_pandas(frame), frame.set_index("time_s")):
        same(windows, sf.make_windows(other, window_s=2, hop_s=1))


def test_files_give_the_same(frame, windows, tmp_path):
    frame.to_csv(tmp_path / "all.csv", index=False)
    same(windows, sf.make_windows(tmp_path / "all.csv", window_s=2, hop_s=1))
    pl.from_pandas(frame).write_parquet(tmp_path / "all.parquet")
    same(windows, sf.make_windows(tmp_path / "all.parquet", window_s=2, hop_s=1))
    recipe = make_recipe(
        {
            "folder": str(tmp_path),
            "window_s": 2.0,
            "hop_s": 1.0,
            "table": [
                {
                    "files": ["all.csv"],
                    "time": "time_s",
                    "unit": "s",
                    "label": "label",
                    "subject": "subject",
                    "sensor": [
                        {"name": "acc", "columns": ["acc_x", "acc_y", "acc_z"], "rate_hz": 20},
                        {"name": "hr", "columns": ["hr"], "rate_hz": 2},
                    ],
                }
            ],
        },
        "test",
    )
    make_file(recipe, tmp_path / "m.npz")
    same(windows, sf.load_windows(tmp_path / "m.npz"))


def test_arrays_give_the_same(frame, windows):
    known = frame["hr"].notna().to_numpy()
    arrays = {
        "acc": frame[["acc_x", "acc_y", "acc_z"]].to_numpy(),
        "hr": frame["hr"].to_numpy()[known],
    }
    found = sf.make_windows(
        arrays,
        window_s=2,
        hop_s=1,
        rate_hz={"acc": 20, "hr": 2},
        time={"acc": frame["time_s"].to_numpy(), "hr": frame["time_s"].to_numpy()[known]},
        unit="s",
        label=frame["label"].to_numpy(),
        subject={"acc": frame["subject"].to_numpy(), "hr": frame["subject"].to_numpy()[known]},
        sensors={"acc": ["acc_x", "acc_y", "acc_z"]},
    )
    same(windows, found)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([5.0, 12.5, 64.0]),
    st.floats(0, 0.2),
    st.sampled_from(["absent", "keep"]),
)
def test_whatever_is_lost_arrays_and_files_give_the_same(tmp_path_factory, seed, rate, lost, gaps):
    rng = np.random.default_rng(seed)
    tables = []
    for person in ("a", "b", "c"):
        kept = np.flatnonzero(rng.random(int(60 * rate)) > lost)
        kept = kept[(kept < 20 * rate) | (kept > rng.uniform(20, 30) * rate)]
        times = np.round(kept / rate + rng.uniform(-0.1, 0.1, len(kept)) / rate, 6)
        values = rng.normal(size=(len(kept), 2)).astype(np.float32)
        values[rng.random(values.shape) < lost / 2] = np.nan
        doing = np.where(kept < 35 * rate, "x", "y")
        tables.append(
            pd.DataFrame(
                {"t": times, "u": values[:, 0], "v": values[:, 1], "label": doing, "subject": person}
            )
        )
    whole = pd.concat(tables).sample(frac=1, random_state=seed % 1000)
    rules = {"window_s": 2, "hop_s": 0.7, "gaps": gaps, "max_gap_s": 0.6}
    path = tmp_path_factory.mktemp("same") / "m.npz"
    whole.to_csv(path.with_suffix(".csv"), index=False)
    entry = {
        "files": ["m.csv"],
        "time": "t",
        "unit": "s",
        "label": "label",
        "subject": "subject",
        "sensor": [{"name": "s", "columns": ["u", "v"], "rate_hz": rate}],
    }
    make_file(make_recipe({"folder": str(path.parent), "table": [entry], **rules}, "test"), path)
    arrays = {"s": whole[["u", "v"]].to_numpy()}
    given_ = sf.make_windows(
        arrays,
        rate_hz=rate,
        time=whole["t"].to_numpy(),
        unit="s",
        label=whole["label"].to_numpy(),
        subject=whole["subject"].to_numpy(),
        **rules,
    )
    files = sf.load_windows(path)
    # a dictionary of people is in the order they come; windows are the same, person by person
    order = np.lexsort((np.arange(len(files)), files.subject))
    other = np.lexsort((np.arange(len(given_)), given_.subject))
    np.testing.assert_array_equal(files.raw["s"][order], given_.raw["s"][other])
    np.testing.assert_array_equal(files.y[order], given_.y[other])


def test_a_frame_a_sensor_gives_the_same(frame, windows):
    acc = frame.drop(columns="hr")
    hr = frame[frame["hr"].notna()][["time_s", "hr", "subject"]]
    found = sf.make_windows({"acc": acc, "hr": pl.from_pandas(hr)}, window_s=2, hop_s=1, label="label")
    same(windows, found)


def test_moments_of_frames_and_arrays_need_no_unit(frame):
    when = pd.Timestamp("2024-05-31", tz="Europe/Berlin") + pd.to_timedelta(frame["time_s"], unit="s")
    timed = frame.drop(columns="time_s").assign(when=when)
    a = sf.make_windows(timed, window_s=2)
    b = sf.make_windows(
        frame[["acc_x"]].to_numpy(),
        window_s=2,
        time=when.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy(),
        label=frame["label"].to_numpy(),
        subject=frame["subject"].to_numpy(),
    )
    np.testing.assert_array_equal(a.raw["acc"][:, :, :1], b.raw["sensor"])


def test_one_array_of_one_person_is_split_by_time_and_says_so(capsys):
    t = np.arange(6000) / 20
    windows = sf.make_windows(np.sin(t), rate_hz=20, window_s=1, label=np.array([label_at(v) for v in t]))
    assert "one subject only" in capsys.readouterr().err
    assert windows.raw["sensor"].shape[1:] == (20, 1)
    assert len(np.unique(windows.subject)) == 3
    for word in ("train", "validation", "test"):
        assert set(windows.y[windows.indices(word)].tolist()) == {0, 1, 2}


def test_subjects_may_be_given_their_split(frame):
    dealt = {"train": ["p1"], "validation": ["p3"], "test": ["p2"]}
    windows = sf.make_windows(frame, window_s=2, split=dealt)
    assert [int(windows.split[windows.subject == k][0]) for k in range(3)] == [0, 2, 1]
    with pytest.raises(DataError, match="p2"):
        sf.make_windows(frame, window_s=2, split={"train": ["p1"], "test": ["p3"]})
    with pytest.raises(DataError, match="p9"):
        sf.make_windows(frame, window_s=2, split={"train": ["p1", "p2", "p3"], "test": ["p9"]})


def test_windows_that_are_cut_already_are_taken_as_they_are():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 50, 3))
    y = np.array(["a", "b", "c"] * 10)
    who = np.repeat(["p1", "p2", "p3", "p4", "p5"], 6)
    windows = sf.make_windows({"acc": x}, rate_hz=25, label=y, subject=who)
    np.testing.assert_array_equal(windows.raw["acc"], x.astype(np.float32))
    assert windows.classes == ("a", "b", "c")
    turned = sf.make_windows({"acc": np.swapaxes(x, 1, 2)}, rate_hz=25, label=y, subject=who, axes="NCT")
    np.testing.assert_array_equal(turned.raw["acc"], windows.raw["acc"])


def test_channels_before_steps_are_not_taken_in_silence():
    with pytest.raises(DataError, match="axes="):
        sf.make_windows(np.zeros((10, 3, 50)), rate_hz=25, label=["a", "b"] * 5)
    wide = sf.make_windows(np.zeros((10, 3, 50)), rate_hz=25, label=["a", "b"] * 5, axes="NTC")
    assert wide.modalities[0].length == 3


X = np.zeros((100, 2))
BAD = {
    "no length": ({"source": X, "rate_hz": 10, "label": "a"}, "window_s is missing"),
    "no rate": ({"source": X, "window_s": 1, "label": "a"}, "rate_hz"),
    "labels that do not fit": ({"source": X, "rate_hz": 10, "window_s": 1, "label": ["a"] * 7}, "7 entries"),
    "subjects that do not fit": (
        {"source": X, "rate_hz": 10, "window_s": 1, "label": "a", "subject": ["p"] * 7},
        "subject has 7",
    ),
    "times that do not fit": (
        {"source": X, "rate_hz": 10, "window_s": 1, "label": "a", "time": np.arange(7), "unit": "s"},
        "time of",
    ),
    "times without a unit": (
        {"source": X, "rate_hz": 10, "window_s": 1, "label": "a", "time": np.arange(100)},
        "unit=",
    ),
    "one class": ({"source": X, "rate_hz": 10, "window_s": 1, "label": "a"}, "two classes or more"),
    "words": ({"source": np.array(["a"] * 5), "rate_hz": 10, "window_s": 1, "label": "a"}, "give numbers"),
    "nothing": ({"source": {}, "window_s": 1}, "holds no sensor"),
    "an unknown rule": ({"source": X, "rate_hz": 10, "window_s": 1, "label": "a", "gaps": "fill"}, "gaps"),
    "a split by window": (
        {"source": X, "rate_hz": 10, "window_s": 1, "label": "a", "split": [0, 1]},
        "by subject",
    ),
    "a column that is not there": (
        {"source": pd.DataFrame({"t": [1.0]}), "window_s": 1, "label": "z"},
        "'z'",
    ),
    "a frame without rows": ({"source": pd.DataFrame({"t": []}), "window_s": 1}, "no row"),
    "labels of windows that lack": ({"source": np.zeros((4, 9, 2)), "rate_hz": 1}, "label is missing"),
    "a rate of windows that lacks": ({"source": np.zeros((4, 9, 2)), "label": [0, 1, 0, 1]}, "rate_hz"),
}


@pytest.mark.parametrize(("arguments", "said"), BAD.values(), ids=BAD)
def test_wrong_arguments_are_refused_in_one_sentence(arguments, said):
    with pytest.raises((DataError, ConfigError), match=said) as raised:
        sf.make_windows(arguments["source"], **{k: v for k, v in arguments.items() if k != "source"})
    assert "\n" not in str(raised.value)


def test_recordings_without_labels_become_windows_that_can_be_predicted():
    windows = sf.make_windows(X, rate_hz=10, window_s=1)
    assert not windows.labelled
    assert len(windows) == len(X) // 10
