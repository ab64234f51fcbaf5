"""`torchrun -m sentryfuse train`: two processes, one model, one folder, one voice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sentryfuse.training.state import TrainState

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def torchrun(*words: object) -> subprocess.CompletedProcess[str]:
    place = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    line = [*TORCHRUN, "-m", "sentryfuse", *map(str, words)]
    return subprocess.run(line, cwd=ROOT, env=place, capture_output=True, text=True, timeout=300, check=False)


def rounded(value):
    """The same to three decimals, without what no two runs have in common."""
    if isinstance(value, dict):
        gone = ("seconds", "cpu_seconds", "processes")
        return {key: rounded(item) for key, item in value.items() if key not in gone}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(value, 3) if isinstance(value, float) else value


def stop_after_one_epoch(command, monkeypatch, line):
    save = TrainState.save

    def save_and_stop(*args):
        save(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainState, "save", save_and_stop)
        assert command(*line).code == 130


@pytest.mark.parametrize("stopped", [False, True], ids=["from the start", "going on with what one began"])
def test_two_processes_leave_what_one_leaves(stopped, command, recording, tmp_path, monkeypatch):
    asked = ["--data", recording, "--epochs", 3, "--seed", 3, "--backbone", "flexmoe"]
    assert command("train", *asked, "--out", tmp_path / "one", "--quiet").code == 0
    if stopped:
        stop_after_one_epoch(command, monkeypatch, ["train", *asked, "--out", tmp_path / "two", "--quiet"])
    done = torchrun("train", *asked, "--out", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote ") == 1
    assert done.stderr.count("train 3/3") == 1
    folders = [tmp_path / name for name in ("one", "two")]
    files = [sorted(path.name for path in folder.iterdir()) for folder in folders]
    assert files[0] == files[1]
    one, two = (json.loads((f / "metrics.json").read_text(encoding="utf-8")) for f in folders)
    assert (one["processes"], two["processes"]) == (1, 2)
    assert two["cpu_seconds"]["train"] > 0
    assert rounded(two) == rounded(one)
    one, two = (load_file(folder / "model.safetensors") for folder in folders)
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=1e-4, rtol=0, msg=name)


def test_what_is_wrong_is_said_once_and_ends_all(recording, run_folder, tmp_path):
    wrong = {
        "no such recording": ["--data", tmp_path / "missing.npz", "--out", tmp_path / "run"],
        "a finished model": ["--data", recording, "--out", run_folder],
        "a device that is not here": ["--data", recording, "--out", tmp_path / "run", "--device", "tpu"],
    }
    for what, words in wrong.items():
        done = torchrun("train", *words)
        assert done.returncode != 0, what
        assert done.stderr.count("error: ") == 1, what
        assert "sentryfuse/cli" not in done.stderr, "a traceback"
    assert not (tmp_path / "run").exists()
