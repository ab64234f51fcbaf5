"""`.ts` files of aeon and sktime, equal and unequal."""

from __future__ import annotations

import numpy as np
import pytest

from sentryfuse.data import load_windows, save_windows
from sentryfuse.errors import ConfigError, DataError
from sentryfuse.recordings import make_cases, read_ts

HEAD = (
    "# a comment\n@problemName Toy\n@timeStamps false\n@univariate false\n@dimensions 2\n"
    "@classLabel true a b\n@data\n"
)


def write(path, cases, head=HEAD):
    lines = [":".join([",".join(map(str, channel)) for channel in case] + [label]) for case, label in cases]
    path.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def toy(n, seed, longest=8):
    rng = np.random.default_rng(seed)
    made = []
    for i in range(n):
        length = longest if longest == 8 else int(rng.integers(3, longest))
        made.append((rng.normal(size=(2, length)).round(3).tolist(), "ab"[i % 2]))
    return made


def test_two_files_are_the_two_splits(tmp_path):
    train, test = toy(20, 0), toy(12, 1)
    files = [write(tmp_path / "Toy_TEST.ts", test), write(tmp_path / "Toy_TRAIN.ts", train)]
    windows, _ = make_cases(files, rate_hz=10)
    assert windows.name == "Toy"
    assert np.bincount(windows.split).tolist() == [16, 4, 12]
    np.testing.assert_allclose(windows.raw["series"][0].T, train[0][0], rtol=1e-6)
    np.testing.assert_allclose(windows.raw["series"][20].T, test[0][0], rtol=1e-6)
    assert [windows.classes[k] for k in windows.y[:2]] == ["a", "b"]
    assert (windows.modalities[0].rate_hz, windows.modalities[0].may_miss) == (10, False)
    for word in ("train", "validation", "test"):
        assert set(windows.y[windows.indices(word)].tolist()) == {0, 1}
    save_windows(tmp_path / "toy.npz", windows)
    assert len(load_windows(tmp_path / "toy.npz")) == 32


@pytest.mark.parametrize("lengths", ["pad", "cut"])
def test_unequal_cases_are_padded_or_cut_and_it_is_said(tmp_path, lengths):
    cases = toy(20, 0, longest=12)
    windows, said = make_cases([write(tmp_path / "u.ts", cases)], lengths=lengths)
    steps = [len(case[0]) for case, _ in cases]
    assert windows.modalities[0].length == (max(steps) if lengths == "pad" else min(steps))
    assert f"cases have {min(steps)} to {max(steps)} steps" in said[0]
    for row, (case, _) in zip(windows.raw["series"], cases, strict=True):
        n = min(len(case[0]), len(row))
        np.testing.assert_allclose(row[:n].T, np.array(case)[:, :n], rtol=1e-6)
        assert np.isnan(row[n:]).all()


def test_channels_may_be_divided_among_sensors(tmp_path):
    windows, _ = make_cases([write(tmp_path / "t.ts", toy(20, 0))], sensors={"one": [1], "both": [0, 1]})
    assert windows.names == ("one", "both")
    np.testing.assert_array_equal(windows.raw["one"][:, :, 0], windows.raw["both"][:, :, 1])
    with pytest.raises(ConfigError, match="channel 5"):
        make_cases([tmp_path / "t.ts"], sensors={"x": [5]})


def test_question_marks_are_not_measured(tmp_path):
    cases = [([["1", "?", "3"], ["4", "5", "6"]], "ab"[i % 2]) for i in range(12)]
    windows, _ = make_cases([write(tmp_path / "t.ts", cases)])
    assert np.isnan(windows.raw["series"][:, 1, 0]).all()
    assert windows.modalities[0].may_miss


BAD = {
    "no header": ("1,2:3,4:a\n", "before @data"),
    "nothing below": (HEAD, "holds no case"),
    "time stamps": (HEAD.replace("Stamps false", "Stamps true") + "(0,1),(1,2):a\n", "time stamps"),
    "a regression": (HEAD.replace("classLabel", "targetLabel") + "1,2:3,4:0.5\n", "regression"),
    "no labels": (HEAD.replace("classLabel true a b", "classLabel false") + "1,2:3,4\n", "no class labels"),
    "a word": (HEAD + "1,two:3,4:a\n", "line 8"),
    "channels that differ": (HEAD + "1,2:3,4:a\n1,2:b\n", "1 and of 2 channels"),
}


@pytest.mark.parametrize(("text", "said"), BAD.values(), ids=BAD)
def test_a_wrong_file_is_refused_in_one_sentence(tmp_path, text, said):
    path = tmp_path / "t.ts"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=said) as raised:
        read_ts(path)
    assert "\n" not in str(raised.value)


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    one = write(tmp_path / "a.ts", toy(4, 0))
    with pytest.raises(DataError, match="TEST in its name"):
        make_cases([one, write(tmp_path / "b.ts", toy(4, 0))])
    other = write(tmp_path / "b_TEST.ts", [([[1, 2]], "a"), ([[1, 3]], "b")])
    with pytest.raises(DataError, match="different numbers of channels"):
        make_cases([one, other])
    with pytest.raises(DataError, match="3 ts files"):
        make_cases([one, one, one])
    with pytest.raises(ConfigError, match="pad or cut"):
        make_cases([one], lengths="stretch")
    with pytest.raises(DataError, match="no file"):
        make_cases([tmp_path / "none.ts"])
