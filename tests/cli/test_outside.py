"""What the world does to a command: full disks, other encodings, readers that leave, closed streams."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentryfuse.training.folder import STATE
from sentryfuse.training.state import TrainState
from tests.few_trees import PROGRAM

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("加速度", "müde")


def sentryfuse(*argv, **options):
    return subprocess.run(
        [sys.executable, "-m", "sentryfuse", *map(str, argv)],
        cwd=ROOT,
        capture_output=True,
        check=False,
        **options,
    )


@pytest.fixture
def foreign(tmp_path):
    """A recording whose names most terminals do not know."""
    rng = np.random.default_rng(0)
    sensor, kind = NAMES
    arrays: dict[str, Any] = {
        "modalities": np.array([sensor]),
        f"x_{sensor}": rng.standard_normal((60, 20, 3)).astype("f4"),
        f"rate_{sensor}": 20.0,
        "y": rng.integers(0, 2, 60),
        "classes": np.array(["走る", kind]),
        "subject": np.repeat(np.arange(6), 10),
    }
    np.savez(tmp_path / "d.npz", **arrays)
    return tmp_path / "d.npz"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_names_outside_the_terminals_encoding_end_no_command(foreign, encoding):
    env = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    shown = sentryfuse("data", "describe", foreign, env=env)
    assert (shown.returncode, shown.stderr) == (0, b"")
    told = sentryfuse("data", "describe", foreign, "--json", "-", env=env)
    assert json.loads(told.stdout.decode(encoding))["modalities"][0]["name"] == NAMES[0]
    bad = sentryfuse("data", "describe", foreign.with_name("none-走.npz"), env=env)
    assert bad.returncode == 2
    assert bad.stderr.count(b"\n") == 1


def test_a_stream_is_answered_on_a_terminal_that_does_not_know_its_names(foreign, command, tmp_path):
    assert command("train", "--data", foreign, "--out", tmp_path / "run", "--epochs", 1, "--quiet").code == 0
    assert command("export", tmp_path / "run", "--out", tmp_path / "b", "--quiet").code == 0
    env = os.environ | {"PYTHONIOENCODING": "latin-1"}
    done = sentryfuse("run", tmp_path / "b", "--source", f"replay:{foreign}", "--json", "-", env=env)
    assert done.returncode == 0
    lines = [json.loads(line) for line in done.stdout.decode("latin-1").splitlines()]
    assert lines[0]["sensors"] == [NAMES[0]]
    assert lines[0]["p_走る"] + lines[0]["p_müde"] == pytest.approx(1, abs=1e-5)
    out = tmp_path / "a.csv"
    assert sentryfuse("predict", tmp_path / "b", "--data", foreign, "--out", out, env=env).returncode == 0
    assert out.read_text(encoding="utf-8").splitlines()[0].startswith("window,subject,answer,p_走る,p_müde")


def test_a_command_goes_on_when_nobody_reads_its_output(recording, bundle, tmp_path):
    out = tmp_path / "a.csv"
    words = [sys.executable, "-m", "sentryfuse", "predict", bundle, "--data", recording, "--out", out]
    reader, writer = os.pipe()
    os.close(reader)  # whoever was to read has gone
    done = subprocess.run([*map(str, words)], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(out.read_text(encoding="utf-8").splitlines()) == 201


def test_a_training_goes_on_when_nobody_reads_its_progress(recording, tmp_path):
    words = ["train", "--data", recording, "--out", tmp_path / "run", "--epochs", 1]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, words)],
        cwd=ROOT,
        stdout=writer,
        stderr=writer,
        check=False,
    )
    os.close(writer)
    assert done.returncode == 0
    assert (tmp_path / "run" / "metrics.json").is_file()


def test_a_stream_ends_quietly_when_nobody_reads_its_lines(recording, bundle):
    words = f"{sys.executable} -m sentryfuse run {bundle} --source replay:{recording} --json - | head -n 1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {words}"], cwd=ROOT, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["window"] == 0


def test_closed_streams_are_no_traceback(recording, bundle, tmp_path):
    out = tmp_path / "a.csv"
    words = f"{sys.executable} -m sentryfuse predict {bundle} --data {recording} --out {out} >&- 2>&-"
    done = subprocess.run(["bash", "-c", words], cwd=ROOT, check=False)
    assert done.returncode == 0
    assert out.is_file()


def test_results_that_cannot_be_written_are_an_error(bundle):
    words = f"{sys.executable} -m sentryfuse plan {bundle} --json - > /dev/full"
    done = subprocess.run(["bash", "-c", words], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: ")
    assert done.stderr.count(b"\n") == 1


@contextmanager
def small_files():
    """No file of this process may grow beyond 20 kB meanwhile."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_one_sentence_and_leaves_nothing_half(
    command, recording, run_folder, bundle, tmp_path
):
    words = {
        "train": ("train", "--data", recording, "--epochs", 1, "--out", tmp_path / "run"),
        "export": ("export", run_folder, "--out", tmp_path / "b.bundle"),
        "prune": ("prune", run_folder, "--ratio", 0.2, "--out", tmp_path / "small"),
        "predict": ("predict", bundle, "--data", recording, "--out", tmp_path / "a.csv"),
    }
    for name, argv in words.items():
        with small_files():
            done = command(*argv, "--quiet")
        assert done.code == 2, name
        assert done.err.startswith("error: cannot write "), done.err
        assert "file too large" in done.err
        assert ".partial" not in done.err
        assert done.err.count("\n") == 1
    assert [path.name for path in tmp_path.rglob("*") if path.name != "run"] == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to_is_noticed_before_the_work(
    command, recording, run_folder, tmp_path
):
    tmp_path.chmod(0o500)
    done = command("train", "--data", recording, "--out", tmp_path / "run")
    tmp_path.chmod(0o700)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "may not be written to" in done.err


def test_a_recording_whose_values_changed_is_another_training(recording, tmp_path, command, monkeypatch):
    with np.load(recording) as stored:
        arrays = dict(stored)
    path, run = tmp_path / "own.npz", tmp_path / "run"
    np.savez(path, **arrays)
    save = TrainState.save

    def once(self, *parts):
        save(self, *parts)
        raise KeyboardInterrupt

    words = ["train", "--data", path, "--out", run, "--epochs", 2, "--quiet"]
    with monkeypatch.context() as patch:
        patch.setattr(TrainState, "save", once)
        assert command(*words).code == 130
    assert (run / STATE).is_file()
    np.savez(path, **(arrays | {"scale_wrist_acc": 9.81 * arrays["scale_wrist_acc"]}))
    again = command(*words)
    assert again.code == 2
    assert "other settings or data" in again.err


@pytest.mark.parametrize("error", ["ImportError('onnx.so: failed to map segment')", "MemoryError()"])
def test_a_package_that_does_not_load_is_said_in_one_sentence(tmp_path, error):
    (tmp_path / "onnxruntime.py").write_text(f"raise {error}\n", encoding="utf-8")
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    bundle = ROOT / "tests" / "golden" / "tiny-v3.bundle"
    done = sentryfuse("run", bundle, "--source", "replay:nothing.npz", env=env)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: ")
    assert done.stderr.count(b"\n") == 1
    assert b"memory" in done.stderr
