from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentryfuse.data import describe, load_windows, save_windows
from sentryfuse.errors import DataError

N = 12


def small(**changes):
    """A recording that is right, with some keys replaced, or left out where the value is None."""
    rng = np.random.default_rng(0)
    arrays = {
        "modalities": np.array(["acc", "lab"]),
        "x_acc": rng.integers(-100, 100, (N, 8, 3)).astype(np.int16),
        "scale_acc": np.array([0.1, 0.2, 0.3], np.float32),
        "rate_acc": np.float32(32),
        "channels_acc": np.array(["x", "y", "z"]),
        "x_lab": np.where(rng.random((N, 4, 2)) < 0.3, np.nan, 1.0).astype(np.float16),
        "rate_lab": np.float32(1),
        "y": np.arange(N) % 2,
        "classes": np.array(["rest", "move"]),
        "subject": np.arange(N) // 2,
        "split": (np.arange(N) // 4).astype(np.int8),
    }
    return {k: v for k, v in {**arrays, **changes}.items() if v is not None}


def write(path: Path, **changes) -> Path:
    np.savez(path, **small(**changes))
    return path


def with_value(key: str, value: float, dtype: type | None = None):
    array = small()[key].astype(dtype or small()[key].dtype)
    array[3, 1, 1] = value
    return array


def test_a_right_file_gives_physical_values_and_keeps_missing_ones(tmp_path):
    windows = load_windows(write(tmp_path / "good.npz"))
    arrays = small()
    got = windows.batch(np.array([5, 2]))
    np.testing.assert_allclose(got["acc"], arrays["x_acc"][[5, 2]] * arrays["scale_acc"], rtol=1e-6)
    np.testing.assert_array_equal(got["lab"], arrays["x_lab"][[5, 2]].astype(np.float32))
    assert {v.dtype for v in got.values()} == {np.dtype(np.float32)}
    assert windows.name == "good"
    assert len(windows) == N
    assert windows.names == ("acc", "lab")
    assert windows.modalities[0].channels == ("x", "y", "z")
    assert windows.modalities[1].channels == ("c0", "c1")
    assert [m.may_miss for m in windows.modalities] == [False, True]
    assert list(windows.indices("validation")) == [4, 5, 6, 7]
    assert list(windows.batch(np.array([0]), ("lab",))) == ["lab"]


def test_a_window_without_any_value_is_absent(tmp_path):
    x = small()["x_lab"]
    x[:] = 1
    x[4] = np.nan
    x[5, 0] = np.nan
    windows = load_windows(write(tmp_path / "a.npz", x_lab=x))
    assert list(np.flatnonzero(~windows.present[:, 1])) == [4]
    assert windows.present[:, 0].all()


def test_two_axes_mean_one_channel(tmp_path):
    x = np.ones((N, 4), np.float32)
    windows = load_windows(write(tmp_path / "a.npz", x_lab=x))
    assert windows.raw["lab"].shape == (N, 4, 1)


def test_fortran_order_is_read_as_the_same_numbers(tmp_path):
    x = np.asfortranarray(small()["x_acc"])
    windows = load_windows(write(tmp_path / "a.npz", x_acc=x))
    np.testing.assert_array_equal(windows.raw["acc"], x)


def test_without_a_split_subjects_are_dealt_out_always_the_same(tmp_path):
    path = write(tmp_path / "a.npz", split=None)
    windows = load_windows(path)
    assert set(windows.split) == {0, 1, 2}
    np.testing.assert_array_equal(windows.split, load_windows(path).split)


def test_declared_missing_values_may_be_float32(tmp_path):
    x = with_value("x_acc", np.nan, np.float32)
    windows = load_windows(write(tmp_path / "a.npz", x_acc=x, missing_acc=np.array(True)))
    assert windows.modalities[0].may_miss
    assert np.isnan(windows.batch(np.array([3]))["acc"]).sum() == 1


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"modalities": None}, "'modalities'"),
        ({"x_acc": None}, "'x_acc'"),
        ({"rate_acc": None}, "'rate_acc'"),
        ({"modalities": np.array([], dtype="U3")}, "no modality"),
        ({"modalities": np.array(["acc", "acc"])}, "twice"),
        ({"modalities": np.array([1, 2])}, "texts"),
        ({"y": np.arange(N) % 3}, "label 2"),
        ({"y": -(np.arange(N) % 2)}, "label -1"),
        ({"y": np.full(N, 2**64 - 1, np.uint64)}, "too large"),
        ({"y": np.arange(N - 1) % 2}, "subject has 12"),
        ({"y": np.array([], int)}, "no window"),
        ({"classes": np.array(["one"])}, "two or more"),
        ({"classes": np.array(["one", "one"])}, "twice"),
        ({"classes": np.array(["one", "\x1b[2J"])}, "unprintable"),
        ({"subject": np.zeros(N, int)}, "more than one split"),
        ({"split": np.full(N, 3, np.int8)}, "other values"),
        ({"split": np.zeros(3, np.int8)}, "one entry per window"),
        ({"split": np.array(["train", "eval"] * 6)}, "'eval'"),
        ({"split": np.full(N, 0.5)}, "0.5"),
        ({"y": np.full(N, 0.5)}, "0.5"),
        ({"y": np.where(np.arange(N) % 3, 1, np.nan)}, "NaN in 4 of 12"),
        ({"y": np.arange(N) % 2 + 1}, "(y - 1)"),
        ({"y": np.array(["rest", "run"] * 6)}, "'run'"),
        ({"y": np.array(["rest", ""] * 6)}, "empty in 6"),
        ({"y": np.array([b"\xff"] * N)}, "UTF-8"),
        ({"subject": np.array([""] * N)}, "empty"),
        ({"subject": np.full(N, 1.5)}, "1.5"),
        ({"subject": np.array(["a"] * N)}, "subject a is in more than one split"),
        ({"x_acc": np.zeros((N, 3, 8), np.int16)}, "transpose(0, 2, 1)"),
        ({"x_acc": np.zeros((N, 3, 50), np.int16), "channels_acc": None}, "transpose(0, 2, 1)"),
        ({"x_acc": np.zeros((N, 8, 3), complex)}, "complex128"),
        ({"x_acc": np.full((N, 8, 3), 1e300)}, "infinite"),
        ({"x_acc": np.zeros((N, 8, 2), np.int16)}, "make them agree"),
        ({"x_acc": np.zeros((N + 1, 8, 3), np.int16)}, "make them agree"),
        ({"x_acc": np.zeros((N, 0, 3), np.int16)}, "nothing inside"),
        ({"x_acc": np.zeros(N, np.int16)}, "(windows, steps, channels)"),
        ({"scale_acc": np.array([1.0, 0.0, 1.0])}, "positive"),
        ({"scale_acc": np.array(np.nan)}, "positive"),
        ({"scale_acc": np.array(1e300)}, "positive and finite"),
        ({"scale_acc": np.ones(2)}, "scale_acc"),
        ({"rate_acc": np.float32(-1)}, "rate_acc"),
        ({"rate_acc": np.float32(0)}, "static"),
        ({"rate_acc": np.array("fast")}, "one number"),
        ({"missing_lab": np.array(1)}, "one truth value"),
        ({"missing_lab": np.array(False)}, "not declared"),
        ({"x_acc": with_value("x_acc", np.nan, np.float32)}, "not declared"),
        ({"x_acc": with_value("x_acc", np.inf, np.float32)}, "infinite"),
        ({"x_lab": with_value("x_lab", -np.inf)}, "infinite"),
        (
            {"x_acc": with_value("x_acc", 3e38, np.float32), "scale_acc": np.float32(10)},
            "infinite",
        ),
    ],
)
def test_a_wrong_file_is_refused_in_one_sentence(tmp_path, changes, word):
    path = write(tmp_path / "bad.npz", **changes)
    with pytest.raises(DataError) as caught:
        load_windows(path)
    assert word in str(caught.value)
    assert "bad" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", " a", "all", "a,b", "a/b", "a=b", "a\tb", "a\x00b", "\x07"])
def test_names_that_a_command_line_cannot_carry_are_refused(tmp_path, name):
    if name == "a\x00b":  # numpy ends text at a zero only at its end; a zip member cannot hold one
        path = write(tmp_path / "bad.npz", modalities=np.array([name, "lab"]))
    else:
        arrays = small(modalities=np.array([name, "lab"]))
        path = tmp_path / "bad.npz"
        np.savez(path, **arrays)
    with pytest.raises(DataError, match="modality name"):
        load_windows(path)


def test_all_that_is_wrong_is_told_at_once(tmp_path):
    path = write(
        tmp_path / "bad.npz",
        x_acc=np.zeros((N, 8, 3), complex),
        rate_lab=np.float32(-1),
        y=np.full(N, 7),
        subject=np.full(N, 0.5),
        split=np.array(["mine"] * N),
    )
    with pytest.raises(DataError) as caught:
        load_windows(path)
    said = str(caught.value)
    assert said.startswith("bad has 5 faults: (1) ")
    for word in ("complex128", "rate_lab", "label 7", "0.5", "'mine'"):
        assert word in said
    assert "\n" not in said


def test_one_fault_is_not_told_twice(tmp_path):
    for changes in ({"subject": np.full(N, 0.5)}, {"subject": np.arange(5)}):
        with pytest.raises(DataError) as caught:
            load_windows(write(tmp_path / "bad.npz", **changes))
        assert "faults" not in str(caught.value)


def test_many_faults_are_told_by_their_number(tmp_path):
    names = np.array([f"s{i}" for i in range(40)])
    many = {f"x_s{i}": np.zeros((N, 4, 1), complex) for i in range(40)}
    path = write(tmp_path / "bad.npz", modalities=names, **many, **{f"rate_s{i}": 1.0 for i in range(40)})
    with pytest.raises(DataError, match=r"has 40 faults: .*; and 28 more") as caught:
        load_windows(path)
    assert len(str(caught.value)) < 2000


TYPES = ("float64", ">f8", "int32", "uint16", "uint8", "int64", ">i2", "bool")


@pytest.mark.parametrize("dtype", TYPES)
def test_numbers_of_any_type_are_taken(tmp_path, dtype):
    x = np.arange(N * 8 * 3).reshape(N, 8, 3) % 100
    windows = load_windows(write(tmp_path / "a.npz", x_acc=x.astype(dtype), scale_acc=None))
    assert windows.raw["acc"].dtype.isnative
    np.testing.assert_array_equal(windows.batch(np.arange(N))["acc"], x.astype(dtype).astype(np.float32))


def test_labels_people_and_splits_may_be_words(tmp_path):
    y, who = np.array(["rest", "move"] * 6), np.array([f"P{i // 2:02d}" for i in range(N)])
    words = np.array(["Train"] * 4 + ["val"] * 4 + ["test"] * 4)
    windows = load_windows(write(tmp_path / "a.npz", y=y, subject=who, split=words))
    plain = load_windows(write(tmp_path / "b.npz"))
    for key in ("y", "subject", "split"):
        np.testing.assert_array_equal(getattr(windows, key), getattr(plain, key))
    assert windows.subject_names(np.array([5])) == ["P02"]
    assert plain.subject_names(np.array([5])) == [2]
    save_windows(tmp_path / "c.npz", windows)
    assert load_windows(tmp_path / "c.npz").people == windows.people
    as_bytes = load_windows(write(tmp_path / "d.npz", y=y.astype("S"), classes=np.array([b"rest", b"move"])))
    assert as_bytes.classes == ("rest", "move")


@pytest.mark.parametrize(
    ("y", "names"),
    [
        (np.array(["walk", "run"] * 6), ("run", "walk")),
        (np.array([3, 7] * 6), ("3", "7")),
        (np.array([0.0, 1.0] * 6), ("0", "1")),
        (np.array([False, True] * 6), ("0", "1")),
        (np.array([[0], [1]] * 6), ("0", "1")),
    ],
)
def test_without_class_names_the_labels_that_occur_are_the_classes(tmp_path, y, names):
    windows = load_windows(write(tmp_path / "a.npz", y=y, classes=None))
    assert windows.classes == names
    assert [windows.classes[k] for k in windows.y[:2]] == [str(v).removesuffix(".0") for v in _as_said(y[:2])]


def _as_said(y):
    return [int(v) if v.dtype.kind in "bf" else v for v in np.ravel(y)]


def test_labels_and_people_may_lack_in_what_is_only_predicted(tmp_path):
    windows = load_windows(write(tmp_path / "a.npz", y=None, classes=None, subject=None, split=None))
    assert not windows.labelled
    assert not windows.knows_subject
    assert windows.subject_names(np.array([0])) is None
    assert len(windows.indices("test")) == N
    told = describe(windows)
    assert (told["labelled"], told["classes"], told["n_subjects"]) == (False, {}, None)
    save_windows(tmp_path / "b.npz", windows)
    again = load_windows(tmp_path / "b.npz")
    assert not again.labelled
    assert not again.knows_subject


def test_one_person_without_a_split_is_all_test(tmp_path):
    windows = load_windows(write(tmp_path / "a.npz", subject=np.zeros(N, int), split=None))
    assert list(windows.indices("test")) == list(range(N))


def test_a_window_that_is_nan_throughout_lacks_the_sensor_also_undeclared(tmp_path):
    x = small()["x_acc"].astype(np.float32)
    x[3] = np.nan
    windows = load_windows(write(tmp_path / "a.npz", x_acc=x))
    assert list(np.flatnonzero(~windows.present[:, 0])) == [3]
    assert not windows.modalities[0].may_miss


def test_channels_that_are_named_may_be_more_than_steps(tmp_path):
    x, names = np.zeros((N, 3, 50), np.int16), np.array([f"e{i}" for i in range(50)])
    windows = load_windows(write(tmp_path / "a.npz", x_acc=x, channels_acc=names, scale_acc=None))
    assert windows.modalities[0].n_channels == 50


def test_the_digest_knows_every_value(tmp_path):
    first = load_windows(write(tmp_path / "a.npz"))
    assert first.digest == load_windows(write(tmp_path / "b.npz")).digest
    other = load_windows(write(tmp_path / "c.npz", x_acc=with_value("x_acc", 77)))
    scaled = load_windows(write(tmp_path / "d.npz", scale_acc=np.float32(2)))
    assert len({w.digest for w in (first, other, scaled)}) == 3
    assert len(repr(first)) < 200


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.npz"):
        load_windows(tmp_path / "nowhere.npz")


def test_a_text_file_and_an_empty_archive_are_not_recordings(tmp_path):
    path = tmp_path / "a.npz"
    path.write_text("time,acc\n0,1\n")
    with pytest.raises(DataError, match="not an npz"):
        load_windows(path)
    with zipfile.ZipFile(path, "w"):
        pass
    with pytest.raises(DataError, match="no arrays"):
        load_windows(path)


class Trap:
    """Unpickling this would call `touched`."""

    touched = False

    def __reduce__(self):
        return (setattr, (Trap, "touched", True))


@pytest.mark.parametrize("order", "<>")
def test_text_is_read_in_the_order_of_its_bytes(tmp_path, order):
    names = np.array(["acc", "lab"]).astype(f"{order}U3")
    assert load_windows(write(tmp_path / "a.npz", modalities=names)).names == ("acc", "lab")
    other = {"<": ">", ">": "<"}[order]
    with pytest.raises(DataError, match="text is not text"):
        load_windows(write(tmp_path / "b.npz", modalities=names.view(f"{other}U3")))


def test_pickled_objects_are_refused_and_never_run(tmp_path):
    y = np.empty(N, dtype=object)
    y[:] = [Trap() for _ in range(N)]
    path = tmp_path / "a.npz"
    np.savez(path, allow_pickle=True, **small(y=y))
    with pytest.raises(DataError, match="Python objects"):
        load_windows(path)
    assert Trap.touched is False


def test_a_bomb_is_refused_before_anything_is_unpacked(tmp_path):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("modalities.npy", bytes(30_000_000))
    assert path.stat().st_size < 100_000
    with pytest.raises(DataError, match="over the limit of 20 MB"):
        load_windows(path, max_bytes=20_000_000)


@pytest.mark.parametrize("shape", [(10**15,), (2**62, 8), (-1,)])
def test_a_header_that_lies_about_its_size_is_refused_before_allocation(tmp_path, shape):
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"shape": shape, "fortran_order": False, "descr": "<i2"})
    path = tmp_path / "liar.npz"
    np.savez(path, **{k: v for k, v in small().items() if k != "x_acc"})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_acc.npy", head.getvalue() + bytes(64))
    with pytest.raises(DataError, match="x_acc is damaged"):
        load_windows(path)


def test_an_array_stored_twice_or_encrypted_is_refused(tmp_path):
    path = write(tmp_path / "a.npz")
    body = path.read_bytes()
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("y.npy", b"")
    with pytest.raises(DataError, match="twice"):
        load_windows(path)
    at = body.index(b"PK\x01\x02")  # the first entry of the directory
    flagged = bytearray(body)
    flagged[at + 8 : at + 10] = struct.pack("<H", 1)
    path.write_bytes(flagged)
    with pytest.raises(DataError, match="encrypted"):
        load_windows(path)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_loads_equal_or_is_refused(tmp_path, data):
    path = tmp_path / "a.npz"
    save_windows(path, load_windows(write(tmp_path / "b.npz")))
    good = load_windows(path)
    body = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        body = body[: data.draw(st.integers(0, len(body) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(body)
    try:
        read = load_windows(path)
    except DataError:
        return
    # a date or an optional key was hit; what is read must still be what was written
    np.testing.assert_array_equal(read.raw["acc"], good.raw["acc"])
    np.testing.assert_array_equal(read.y, good.y)


def test_saving_and_loading_gives_equal_bits(tmp_path):
    first = load_windows(write(tmp_path / "a.npz", licence=np.array("CC BY\n 4.0")))
    save_windows(tmp_path / "b.npz", first)
    second = load_windows(tmp_path / "b.npz", name="a")
    assert describe(second) == describe(first)
    assert second.licence == "CC BY 4.0"
    assert second.modalities == first.modalities
    for key in ("y", "subject", "split", "present"):
        np.testing.assert_array_equal(getattr(second, key), getattr(first, key))
    for name in first.names:
        assert second.raw[name].tobytes() == first.raw[name].tobytes()
        assert second.scale[name].tobytes() == first.scale[name].tobytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "b.npz"]
