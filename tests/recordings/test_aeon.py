"""Files that aeon ships go in unchanged; they are fetched with its package, which is not installed."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sentryfuse.cli import main
from sentryfuse.data import load_windows

pytestmark = [pytest.mark.network, pytest.mark.slow]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("aeon")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", folder, "aeon"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-500:]
    with zipfile.ZipFile(next(folder.glob("aeon-*.whl"))) as wheel:
        wheel.extractall(folder, [n for n in wheel.namelist() if n.endswith(".ts")])
    return folder / "aeon" / "datasets" / "data"


# ROCKET and MiniROCKET of aeon 1.6 on the same files: the better of the two, mean of three seeds; cases
# of JapaneseVowels padded with zeros. ROCKET alone: 1.000 and 0.968.
ROCKET = {"BasicMotions": 1.000, "JapaneseVowels": 0.984}


@pytest.mark.parametrize("name", ROCKET)
def test_the_accuracy_of_rocket_is_reached_within_two_points(name, shipped, tmp_path, capfd):
    files = [shipped / name / f"{name}_{part}.ts" for part in ("TRAIN", "TEST")]
    assert main(["data", "make", *map(str, files), "--out", str(tmp_path / "d.npz"), "--quiet"]) == 0
    windows = load_windows(tmp_path / "d.npz")
    assert np.bincount(windows.split)[2] == {"BasicMotions": 40, "JapaneseVowels": 370}[name]
    assert main(["train", "--data", str(tmp_path / "d.npz"), "--out", str(tmp_path / "run"), "--quiet"]) == 0
    capfd.readouterr()
    assert main(["evaluate", str(tmp_path / "run"), "--data", str(tmp_path / "d.npz"), "--json", "-"]) == 0
    row = json.loads(capfd.readouterr().out)["rows"][0]
    assert row["accuracy"] >= ROCKET[name] - 0.02


def test_every_file_it_ships_is_read_or_refused_in_a_sentence(shipped, tmp_path, capfd):
    read = 0
    for path in sorted(shipped.rglob("*.ts")):
        code = main(["data", "make", str(path), "--out", str(tmp_path / "d.npz"), "--quiet"])
        said = capfd.readouterr().err
        assert code == 0 or (code == 2 and said.count("\n") == 1), said
        read += code == 0
    assert read > 10
