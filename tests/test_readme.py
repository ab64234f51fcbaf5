"""The README keeps its promises: commands exist, the Python runs, tables are what the results give."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sentryfuse.cli import main

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


COMMANDS = [
    shlex.split(line, comments=True)[1:]
    for block in blocks("sh")
    for line in block.splitlines()
    if line.startswith("sentryfuse ")
]


def test_the_readme_shows_commands_and_python():
    assert len(COMMANDS) >= 5
    assert blocks("python")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_and_option_of_the_readme_exists(command, capsys):
    words = [word for word in command if re.fullmatch(r"[a-z]+", word)][:2]
    name = words if words[0] == "data" else words[:1]
    assert main([*name, "--help"]) == 0
    text = capsys.readouterr().out
    for option in (word for word in command if word.startswith("--")):
        assert option in text


@pytest.mark.parametrize(
    "target", ["install", "demo", "test", "lint", "data-test", "slow-test", "campaign", "lowest"]
)
def test_every_make_target_of_the_readme_exists(target):
    assert f"make {target}" in README
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_tables_are_what_the_result_files_give():
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "readme.py", "--check"], check=False, cwd=ROOT
    )
    assert done.returncode == 0, "run `python benchmarks/readme.py`"


@pytest.mark.slow
@pytest.mark.parametrize("code", blocks("python"))
def test_the_python_of_the_readme_runs(code, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "MAC" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"small", "model.bundle"}


@pytest.mark.slow
def test_the_five_commands_run_in_order(tmp_path, monkeypatch, capsys):
    from tests.cli.conftest import write_recording

    write_recording(tmp_path / "mine.npz")
    monkeypatch.chdir(tmp_path)
    for command in COMMANDS:
        extra = ["--epochs", "1"] if command[0] == "train" else []
        assert main([*command, *extra]) == 0, capsys.readouterr().err
    assert (tmp_path / "mine.bundle").is_file()
