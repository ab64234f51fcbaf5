"""From a folder of loggers' files to a bundle, by commands; and docs/recordings.md keeps its promises."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sentryfuse.cli import main
from sentryfuse.data import load_windows
from tests.loggers import rows, write_people

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "recordings.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def run(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def command(*words):
        capfd.readouterr()
        code = main([str(word) for word in words])
        said = capfd.readouterr()
        assert code == 0, said.err
        return said

    return command


@pytest.mark.slow
def test_a_folder_of_three_people_becomes_a_bundle_without_python(run, tmp_path):
    write_people(tmp_path / "gym", seconds=90)
    run("data", "guess", "gym", "--out", "recipe.toml")
    made = run("data", "make", "recipe.toml", "--out", "mine.npz", "--window-s", 2, "--hop-s", 0.5)
    assert "windows of 3 subjects" in made.out
    run("train", "--data", "mine.npz", "--out", "run", "--epochs", 8, "--quiet")
    run("export", "run", "--out", "mine.bundle", "--quiet")
    told = run("evaluate", "run", "--data", "mine.npz", "--json", "-", "--present", "acc", "--present", "hr")
    accuracies = [row["accuracy"] for row in json.loads(told.out)["rows"]]
    assert min(accuracies) > 0.9


def test_a_folder_becomes_windows_and_a_picture(run, tmp_path):
    write_people(tmp_path / "gym")
    told = json.loads(run("data", "guess", "gym", "--out", "recipe.toml", "--json", "-").out)
    assert told["doubts"] == []
    made = json.loads(run("data", "make", "recipe.toml", "--out", "mine.npz", "--json", "-").out)
    assert made["sensors"]["hr"]["gaps"] == 6
    run("data", "describe", "mine.npz", "--plot", "mine.png", "--quiet")
    assert (tmp_path / "mine.png").read_bytes().startswith(b"\x89PNG")
    windows = load_windows(tmp_path / "mine.npz")
    assert windows.present[:, 0].all()
    assert not windows.present[:, 1].all(), "hr is absent where it has a gap"
    assert windows.modalities[1].may_miss


def test_tables_go_in_at_once_and_another_length_keeps_the_share_of_the_hop(run, tmp_path):
    write_people(tmp_path / "gym")
    run("data", "make", "gym", "--out", "a.npz", "--window-s", 4)
    with np.load(tmp_path / "a.npz") as file:
        assert np.diff(file["time_s"][:3]).tolist() == [2, 2]
        assert file["x_acc"].shape[1:] == (100, 3)


def test_ts_files_go_in_at_once(run, tmp_path):
    head = "@problemName t\n@univariate false\n@classLabel true a b\n@data\n"
    for part, n in (("TRAIN", 20), ("TEST", 10)):
        cases = [f"{i},2,3:4,5,6:{'ab'[i % 2]}\n" for i in range(n)]
        (tmp_path / f"t_{part}.ts").write_text(head + "".join(cases))
    run(
        "data",
        "make",
        "t_TRAIN.ts",
        "t_TEST.ts",
        "--out",
        "t.npz",
        "--rate-hz",
        5,
        "--sensor",
        "a=0",
        "--sensor",
        "b=1",
    )
    windows = load_windows(tmp_path / "t.npz")
    assert windows.names == ("a", "b")
    assert np.bincount(windows.split).tolist() == [16, 4, 10]


def test_arrays_go_in_at_once(run, tmp_path):
    np.savez(
        tmp_path / "a.npz", X=np.zeros((9, 20, 2)), y=[0, 1, 2] * 3, subject=np.repeat([1, 2, 3], 3), fs=10
    )
    run("data", "make", "a.npz", "--out", "b.npz")
    assert len(load_windows(tmp_path / "b.npz")) == 9


def test_the_program_itself_makes_windows(tmp_path):
    pd.DataFrame(rows()).to_parquet(tmp_path / "all.parquet")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "sentryfuse",
            "data",
            "make",
            "all.parquet",
            "--out",
            "m.npz",
            "--json",
            "-",
            "--quiet",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout)["n_windows"] > 0


def test_without_pyarrow_files_name_the_extra_and_arrays_need_none(tmp_path):
    (tmp_path / "a.csv").write_text("time_s,v,label\n0,1,a\n1,2,b\n")
    hidden = "import sys; sys.modules['pyarrow'] = None; "
    for code, expected, said in (
        (
            "from sentryfuse.cli import main; sys.exit(main(['data', 'make', 'a.csv', '--out', 'm.npz']))",
            2,
            "pip install 'sentryfuse[data]'",
        ),
        (
            "import numpy as np, sentryfuse as sf; sf.make_windows(np.zeros(600), rate_hz=10, window_s=1, "
            "label=['a', 'b'] * 5 + ['a'] * 290 + ['b'] * 300)",
            0,
            "",
        ),
    ):
        done = subprocess.run(
            [sys.executable, "-c", hidden + code],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == expected, done.stderr
        assert said in done.stderr


@pytest.mark.parametrize("most", [20_000, 200_000], ids=["while cutting", "while writing"])
def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path, most):
    write_people(tmp_path / "gym", seconds=200 if most > 100_000 else 60)
    code = (
        "import resource, sys; from sentryfuse.cli import main; "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most})); "
        "sys.exit(main(['data', 'make', 'gym', '--out', 'm.npz', '--hop-s', '0.05', '--quiet']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: cannot write")
    assert done.stderr.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["gym"]


def test_every_command_of_the_page_runs_in_order(run, tmp_path):
    write_people(tmp_path / "gym")
    pd.DataFrame(rows()).to_parquet(tmp_path / "all.parquet")
    write_toy(tmp_path)
    for block in blocks("sh"):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words[:2] == ["sentryfuse", "data"]:
                run(*words[1:])
    assert (tmp_path / "mine.png").is_file()


@pytest.mark.parametrize("code", blocks("python"))
def test_the_python_of_the_page_runs(code, tmp_path):
    pd.DataFrame(rows()).to_parquet(tmp_path / "all.parquet")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr


def test_the_recipe_of_the_page_is_one():
    import tomllib

    from sentryfuse.recordings import make_recipe

    for block in blocks("toml"):
        make_recipe(tomllib.loads(block), "docs")


def write_toy(folder: Path) -> None:
    head = "@problemName Toy\n@univariate false\n@classLabel true a b\n@data\n"
    for part in ("TRAIN", "TEST"):
        cases = [f"{i},2,3,4:4,5,6,7:{'ab'[i % 2]}\n" for i in range(20)]
        (folder / f"Toy_{part}.ts").write_text(head + "".join(cases))
