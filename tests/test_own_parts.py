"""docs/own_parts.md keeps its promises: its code runs in order, and its backbone is short."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import sentryfuse as sf
from sentryfuse.engine import engines
from sentryfuse.graph import kinds
from sentryfuse.model import registry
from sentryfuse.power import reader
from sentryfuse.pruning import scorers
from sentryfuse.stream import schemes
from tests.few_trees import few_trees

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "own_parts.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
REGISTERS = (
    registry._MODELS,
    scorers._SCORERS,
    kinds._KINDS,
    engines._ENGINES,
    schemes.SOURCES,
    reader._OWN,
)


@pytest.fixture
def registers(monkeypatch):
    """What the page registers is forgotten afterwards."""
    for register in REGISTERS:
        monkeypatch.setattr(register, "_known", dict(register._known))


def test_a_backbone_takes_fewer_than_sixty_lines():
    (code,) = re.findall(r"<!-- backbone -->\n\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(code.strip().splitlines()) < 60


def test_every_group_of_entry_points_is_told():
    for register in REGISTERS:
        assert f"| `{register.group}` |" in PAGE
        assert f"`{register.decorator}`" in PAGE


def test_the_code_of_the_page_runs(registers, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    found: dict[str, object] = {"__name__": "own_parts"}
    with few_trees():
        for i, code in enumerate(BLOCKS):
            exec(compile(code, f"block {i} of docs/own_parts.md", "exec", dont_inherit=True), found)
    assert {path.name for path in tmp_path.iterdir()} == {"small.bundle", "theirs.bundle"}
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("(4, ")
    assert len(said) >= 3, "the sine gave no window"
    assert {"early", "theirs"} <= set(sf.list_models())
