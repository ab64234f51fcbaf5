"""docs/study.md keeps its promises."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sentryfuse.cli import main
from sentryfuse.study import lines, store
from sentryfuse.study.design import Dataset, Method, StudyDesign, Turn
from tests.cli.conftest import write_recording

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "study.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


COMMANDS = [shlex.split(line) for block in blocks("sh") for line in block.splitlines()]
LOCAL = [words[1:] for words in COMMANDS if words[0] == "sentryfuse" and "ray" not in words]


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] == "sentryfuse"], ids=" ".join)
def test_every_option_of_the_page_exists(words, capsys):
    assert main(["study", "--help"]) == 0
    text = capsys.readouterr().out
    assert words[1] == "study"
    assert all(word in text for word in words if word.startswith("--"))


@pytest.mark.parametrize("part", [StudyDesign, Dataset, Method, Turn])
def test_every_key_of_a_design_is_told(part):
    assert all(f"`{name}`" in PAGE for name in part.model_fields if name != "format")


@pytest.mark.parametrize("name", [lines.DESIGN, lines.LINES, store.TIMES, lines.ANSWERS])
def test_every_file_that_is_left_is_told(name):
    assert name in PAGE


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the page's commands work: its design, and a small recording under the name of a large one."""
    (tmp_path / "mine.json").write_text(blocks("json")[0], encoding="utf-8")
    (tmp_path / "data").mkdir()
    write_recording(tmp_path / "data" / "dsads.npz")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_commands_run_in_order(folder, capsys):
    for words in LOCAL:
        if "quick" in words:
            continue  # minutes; the next test
        assert main(words) == 0, capsys.readouterr().err
    assert (folder / "full" / "lines.jsonl").is_file()
    assert len((folder / "mine" / "lines.jsonl").read_text().splitlines()) == 2 * (2 * 2 + 3 * 4)


@pytest.mark.slow
def test_the_quick_study_runs(folder, capsys):
    (words,) = [words for words in LOCAL if "quick" in words]
    assert main(words) == 0, capsys.readouterr().err
    assert len((folder / "study" / "lines.jsonl").read_text().splitlines()) == 3 * (4 + 4 * 32)


@pytest.mark.slow
def test_the_commands_of_a_cluster_run_in_order(folder):
    pytest.importorskip("ray")
    bin_ = str(Path(sys.executable).parent)
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}  # for this cluster alone
    paths = {"PATH": os.pathsep.join([bin_, os.environ["PATH"]]), "PYTHONPATH": path}
    space = {**os.environ, **paths, **token}
    start, study = (words for words in COMMANDS if words[1:] not in LOCAL)
    # stays in front, so that we end what we started and no other Ray of this machine
    with subprocess.Popen([*start, "--block"], env=space, stdout=subprocess.DEVNULL) as head:
        try:
            done = None
            for _ in range(30):
                done = subprocess.run(
                    [sys.executable, "-m", *study], env=space, capture_output=True, text=True, check=False
                )
                if "no Ray cluster answers" not in done.stderr:
                    break
                time.sleep(1)
            assert done is not None
            assert done.returncode == 0, done.stderr
        finally:
            head.terminate()
    assert len((folder / "mine-ray" / "lines.jsonl").read_text().splitlines()) == 32
