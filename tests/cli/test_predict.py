"""The story of `sentryfuse predict`: windows or samples in, a file of answers out, labels or not."""

from __future__ import annotations

import csv
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sentryfuse.data import load_windows

ROOT = Path(__file__).resolve().parents[2]
SENSORS = ("wrist_acc", "chest_acc")


def arrays_of(recording):
    with np.load(recording) as stored:
        return dict(stored)


def written(path, arrays, **changes):
    kept = {k: v for k, v in {**arrays, **changes}.items() if v is not None}
    np.savez(path, **kept)
    return path


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_window_has_a_row_in_the_file_and_labels_change_nothing(command, recording, bundle, tmp_path):
    out, bare = tmp_path / "new" / "answers.csv", tmp_path / "bare.csv"
    done = command("predict", bundle, "--data", recording, "--out", out)
    assert (done.code, done.err) == (0, "")
    assert "wrote" in done.out
    rows = rows_of(out)
    windows = load_windows(recording)
    assert [int(row["window"]) for row in rows] == list(range(len(windows)))
    assert [int(row["subject"]) for row in rows] == windows.subject.tolist()
    columns = ["window", "subject", "answer", *(f"p_{c}" for c in windows.classes), "sensors", "plan"]
    assert list(rows[0]) == columns
    assert {row["sensors"] for row in rows} == {",".join(SENSORS)}
    for row in rows:
        p = [float(row[f"p_{c}"]) for c in windows.classes]
        assert sum(p) == pytest.approx(1, abs=1e-5)
        assert row["answer"] == windows.classes[int(np.argmax(p))]
    unlabelled = written(tmp_path / "unlabelled.npz", arrays_of(recording), y=None, classes=None)
    assert command("predict", bundle, "--data", unlabelled, "--out", bare).code == 0
    assert rows_of(bare) == rows


def test_without_out_answers_are_counted(command, recording, bundle, tmp_path):
    path = written(tmp_path / "new.npz", arrays_of(recording), y=None, classes=None, subject=None, split=None)
    told = command("predict", bundle, "--data", path, "--ratio", 0, "--ratio", 0.6, "--json", "-").json
    assert (told["split"], told["dataset"]) == ("all", "new")
    dense, pruned = told["answers"]
    assert dense["n_windows"] == sum(dense["answers"].values()) == 200
    assert pruned["macs"] < dense["macs"]
    assert "sensors they are made of" in command("predict", bundle, "--data", path).out


def test_people_who_did_not_wear_a_sensor_are_answered_and_scored(
    command, recording, run_folder, bundle, tmp_path
):
    arrays = arrays_of(recording)
    without = {k: v for k, v in arrays.items() if "chest_acc" not in k} | {
        "modalities": np.array(["wrist_acc"])
    }
    lacks = written(tmp_path / "lacks.npz", without)
    gone = arrays["x_chest_acc"].astype(np.float32)
    gone[50:] = np.nan
    empty = written(tmp_path / "nan.npz", arrays, x_chest_acc=gone)
    one = written(tmp_path / "one.npz", arrays, subject=np.zeros(200, int), split=None)
    asked = command("predict", bundle, "--data", recording, "--present", "wrist_acc", "--json", "-").json[
        "rows"
    ][0]
    for words in (("predict", bundle), ("evaluate", run_folder)):
        done = command(*words, "--data", lacks, "--json", "-")
        assert done.code == 0
        assert done.json["rows"][0]["accuracy"] == pytest.approx(asked["accuracy"], abs=0.03)
        assert "has no chest_acc" in done.err
        for file in (empty, one):
            assert command(*words, "--data", file, "--split", "all").code == 0
    out = tmp_path / "answers.jsonl"
    assert command("predict", bundle, "--data", empty, "--out", out).code == 0
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [len(row["sensors"]) for row in rows] == [2] * 50 + [1] * 150
    assert len({row["plan"] for row in rows}) == 2


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"rate_wrist_acc": np.float32(16)}, "16 Hz"),
        ({"channels_wrist_acc": np.array(["z", "y", "x"])}, "in that order"),
    ],
)
def test_other_rates_and_channels_are_refused_everywhere(
    command, recording, run_folder, bundle, tmp_path, changes, word
):
    path = written(tmp_path / "other.npz", arrays_of(recording), **changes)
    for words in (
        ("predict", bundle, "--data", path),
        ("predict", bundle, "--data", path, "--out", tmp_path / "a.csv"),
        ("evaluate", run_folder, "--data", path),
        ("run", bundle, "--source", f"replay:{path}"),
    ):
        done = command(*words)
        assert done.code == 2
        assert word in done.err
        assert done.err.count("\n") == 1
    assert not (tmp_path / "a.csv").exists()


def samples(recording, path):
    """The first test person's windows one after the other, as a logger would write them."""
    windows = load_windows(recording)
    chosen = windows.indices("test")[:12]
    batch = windows.batch(chosen)
    names = [f"{m.name}.{c}" for m in windows.modalities for c in m.channels]
    table = np.concatenate([batch[name].reshape(-1, batch[name].shape[2]) for name in SENSORS], axis=1)
    lines = [",".join(["time_s", *names])]
    rate = windows.modalities[0].rate_hz
    lines += [",".join([f"{i / rate:.6f}", *map("{:.7g}".format, row)]) for i, row in enumerate(table)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_csv_of_samples_is_cut_as_run_cuts_it_and_the_columns_are_the_same(
    command, recording, bundle, tmp_path
):
    path, out = samples(recording, tmp_path / "person.csv"), tmp_path / "answers.csv"
    assert command("predict", bundle, "--data", path, "--out", out).code == 0
    rows = rows_of(out)
    told = command("run", bundle, "--source", f"replay:{path}", "--json", "-").out.splitlines()
    lines = [json.loads(line) for line in told][:-1]
    assert len(rows) == len(lines) == 12
    assert next(iter(rows[0])) == "time_s"
    assert set(rows[0]) <= set(lines[0])
    for row, line in zip(rows, lines, strict=True):
        assert float(row["time_s"]) == line["time_s"]
        assert (row["answer"], row["sensors"].split(","), row["plan"]) == (
            line["answer"], line["sensors"], line["plan"]
        )  # fmt: skip
        for name in row:
            if name.startswith("p_"):
                assert float(row[name]) == pytest.approx(line[name], abs=1e-5)
    more = command("predict", bundle, "--data", path, "--hop-s", 0.25, "--json", "-").json
    assert more["answers"][0]["n_windows"] > 12


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--data", "DATA", "--out", "a.txt"), ".parquet"),
        (("--data", "DATA", "--out", "a.csv", "--ratio", "0", "--ratio", "0.6"), "one budget"),
        (("--data", "DATA", "--out", "a.csv", "--missing-rate", "0.5"), "--missing-rate"),
        (("--data", "DATA", "--hop-s", "1"), "--hop-s"),
        (("--data", "CSV", "--fold", "0/5"), "--fold"),
        (("--data", "BARE", "--missing-rate", "0.5"), "no labels"),
        (("--data", "BARE", "--split", "train"), "no window in split train"),
        (("--data", "DATA", "--out", "DATA/a.csv"), "is a file"),
    ],
)
def test_what_predict_cannot_do_is_said_in_one_line(
    command, recording, bundle, tmp_path, monkeypatch, words, said
):
    monkeypatch.chdir(tmp_path)
    files = {
        "DATA": recording,
        "CSV": samples(recording, tmp_path / "p.csv"),
        "BARE": written(tmp_path / "bare.npz", arrays_of(recording), y=None, subject=None, split=None),
    }
    done = command("predict", bundle, *(str(files.get(w, w)).replace("DATA", str(recording)) for w in words))
    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1
    assert not list(tmp_path.glob("a.*"))


def test_commands_that_need_windows_or_labels_say_what_to_do(command, recording, run_folder, tmp_path):
    table = samples(recording, tmp_path / "p.csv")
    for words in (
        ("train", "--out", tmp_path / "run"),
        ("evaluate", run_folder),
        ("demo", "--out", tmp_path / "d"),
    ):
        done = command(*words, "--data", table)
        assert done.code == 2
        assert "sentryfuse data make" in done.err
    bare = written(tmp_path / "bare.npz", arrays_of(recording), y=None)
    for words in (("train", "--out", tmp_path / "run"), ("evaluate", run_folder)):
        done = command(*words, "--data", bare)
        assert done.code == 2
        assert "no labels ('y')" in done.err
    assert not (tmp_path / "run").exists()


def test_training_says_at_once_what_it_cannot_learn_from(command, recording, tmp_path):
    arrays = arrays_of(recording)
    one = written(tmp_path / "one.npz", arrays, y=np.where(arrays["split"] == 0, 0, arrays["y"]))
    done = command("train", "--data", one, "--out", tmp_path / "run")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "of the class 'rest'" in done.err or "training windows are of the class" in done.err
    x = {f"x_{name}": arrays[f"x_{name}"].astype(np.float32) for name in SENSORS}
    for values in x.values():
        values[arrays["split"] == 2] = np.nan
    nothing = written(tmp_path / "nothing.npz", arrays, **x)
    done = command("train", "--data", nothing, "--out", tmp_path / "run")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "windows of test has any sensor" in done.err
    single = written(tmp_path / "single.npz", arrays, subject=np.zeros(200, int), split=None)
    done = command("train", "--data", single, "--out", tmp_path / "run")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "days, sessions" in done.err
    assert not (tmp_path / "run").exists()
    lacking = written(tmp_path / "lacking.npz", arrays, y=np.where(arrays["y"] == 2, 1, arrays["y"]))
    done = command("train", "--data", lacking, "--out", tmp_path / "run", "--epochs", 1)
    assert done.code == 0
    assert "has no window in train" in done.err


def test_the_page_about_predict_does_what_it_says(command, recording, bundle, tmp_path, monkeypatch):
    text = (ROOT / "docs" / "predict.md").read_text(encoding="utf-8")
    (tmp_path / "model.bundle").write_bytes(bundle.read_bytes())
    (tmp_path / "people.npz").write_bytes(recording.read_bytes())
    samples(recording, tmp_path / "person.csv")
    monkeypatch.chdir(tmp_path)
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    assert len(lines) == 3
    for line in lines:
        done = command(*shlex.split(line)[1:])
        assert done.code == 0, done.err
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    columns = re.findall(r"^\| `(\w+)`", text, re.MULTILINE)
    assert set(columns) - {"window", "p_"} <= {*rows_of(tmp_path / "answers.csv")[0], "subject"}
