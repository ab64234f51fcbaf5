"""The pages about streams and the runtime keep their promises: commands and Python run."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from sentryfuse.cli import main
from sentryfuse.data import save_windows
from sentryfuse.runtime import events
from sentryfuse.stream import HealthRules, Verdict
from sentryfuse.stream.mqtt import SOURCE_OPTIONS
from tests.tiny import GOLDEN, MODALITIES, tiny_windows

pytestmark = pytest.mark.device

DOCS = Path(__file__).resolve().parents[2] / "docs"
STREAMS, RUNTIME, SERVICES = (
    (DOCS / name).read_text(encoding="utf-8") for name in ("streams.md", "runtime.md", "services.md")
)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


COMMANDS = [
    shlex.split(line)[1:]
    for text in (STREAMS, RUNTIME, SERVICES)
    for block in blocks(text, "sh")
    for line in block.splitlines()
]


@pytest.fixture
def room(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("model.bundle").write_bytes((GOLDEN / "tiny-v3.bundle").read_bytes())
    Path("charge.csv").write_text("time_s,charge\n0,1\n12,0.2\n", encoding="utf-8")
    save_windows("recording.npz", tiny_windows(60))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_its_options_and_replays_run(command, room, capsys):
    assert main([command[0], "--help"]) == 0
    text = capsys.readouterr().out
    for option in (word for word in command if word.startswith("--")):
        assert option in text
    if any(word.startswith("replay:") for word in command):
        assert main(command) == 0, capsys.readouterr().err


@pytest.mark.parametrize("code", blocks(STREAMS, "python") + blocks(RUNTIME, "python"))
def test_the_python_runs(code, room, capsys):
    exec(code, {"modalities": MODALITIES})
    said = capsys.readouterr().out
    assert "acc" in said or "rest" in code or "result" in code
    assert ("took_over" in said) == (".swap(" in code)


def test_tables_name_what_there_is():
    for verdict in Verdict:
        assert f"| `{verdict}` |" in STREAMS
    for rule in fields(HealthRules):
        assert f"| `{rule.name}` |" in STREAMS
    for option in SOURCE_OPTIONS:
        assert re.search(rf"^\| .*`{option}`", STREAMS, re.MULTILINE), option
    kinds = set(re.findall(r"`([a-z_]+)`", events.__doc__ or "")) - {"budget"}
    for kind in kinds:
        assert f"`{kind}`" in RUNTIME or kind.startswith("publisher_"), kind
