"""npz and npy files of somebody else."""

from __future__ import annotations

import numpy as np
import pytest

from sentryfuse.errors import ConfigError, DataError
from sentryfuse.recordings import windows_of_files
from tests.loggers import label_at


def read(*paths, **changed):
    asked = {"window_s": None, "hop_s": None, "rate_hz": None, "axes": None, **changed}
    return windows_of_files([*paths], **asked)


@pytest.fixture
def cut():
    rng = np.random.default_rng(0)
    return rng.normal(size=(30, 20, 2)).astype(np.float32), np.arange(30) % 3, np.repeat(np.arange(5), 6)


def test_x_y_and_groups_in_one_file(tmp_path, cut):
    x, y, who = cut
    np.savez(tmp_path / "a.npz", X=x, y=y, groups=who, fs=50)
    windows, _ = read(tmp_path / "a.npz")
    np.testing.assert_array_equal(windows.raw["sensor"], x)
    assert windows.modalities[0].rate_hz == 50
    assert windows.classes == ("0", "1", "2")
    assert len(np.unique(windows.subject)) == 5


def test_arrays_in_files_of_their_own(tmp_path, cut):
    x, y, who = cut
    for name, values in {"acc": x, "hr": x[:, :4, :1], "y": y, "subject": who}.items():
        np.save(tmp_path / f"{name}.npy", values)
    windows, _ = read(*sorted(tmp_path.glob("*.npy")), rate_hz=10)
    assert windows.names == ("acc", "hr")


def test_train_and_test_apart(tmp_path, cut):
    x, y, _ = cut
    np.savez(tmp_path / "a.npz", X_train=x[:20], y_train=y[:20], X_test=x[20:], y_test=y[20:])
    windows, said = read(tmp_path / "a.npz", rate_hz=10)
    assert windows.split[20:].tolist() == [2] * 10
    assert set(windows.split[:20].tolist()) == {0, 1}
    assert "neighbouring" in said[0]


def test_samples_are_cut(tmp_path):
    t = np.arange(4000) / 20
    np.savez(
        tmp_path / "a.npz",
        acc=np.stack([t, -t], axis=1),
        label=np.array([label_at(v) for v in t]),
        time_ms=t * 1000,
        subject=np.repeat(["a", "b", "c", "d"], 1000),
    )
    windows, _ = read(tmp_path / "a.npz", window_s=1.0)
    assert windows.modalities[0].rate_hz == 20
    np.testing.assert_allclose(windows.raw["acc"][0, :, 0], t[:20], atol=1e-6)


def test_what_cannot_be_used_is_refused(tmp_path, cut):
    x, y, _ = cut
    for name, arrays, said in (
        ("windows.npz", {"modalities": np.array(["a"]), "x_a": x}, "windows already"),
        ("labels.npz", {"y": y}, "no array of samples"),
        ("nolabels.npz", {"X": x}, "no labels"),
        ("half.npz", {"X_train": x, "y": y}, "not both"),
        ("norate.npz", {"X": x, "y": y}, "rate_hz"),
        ("turned.npz", {"X": np.swapaxes(x, 1, 2), "y": y, "fs": 1}, "axes="),
        ("short.npz", {"X": x, "y": y[:7], "fs": 1}, "7 entries"),
    ):
        np.savez(tmp_path / name, **arrays)
        with pytest.raises((DataError, ConfigError), match=said):
            read(tmp_path / name)
    (tmp_path / "broken.npy").write_bytes(b"nothing")
    with pytest.raises(DataError, match="not a npy file"):
        read(tmp_path / "broken.npy")
    with pytest.raises(DataError, match="no file"):
        read(tmp_path / "none.npy")
