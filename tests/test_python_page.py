"""docs/python.md keeps its promises: it names what is public, and its code runs in order."""

from __future__ import annotations

import re
from pathlib import Path

import torch

import sentryfuse as sf
from tests.few_trees import few_trees

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_names_what_is_public():
    table = "\n".join(line for line in PAGE.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+)`", table)) == set(sf.__all__)


def test_the_code_of_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    found: dict[str, object] = {"__name__": "python_page"}
    with few_trees():
        for i, code in enumerate(BLOCKS):
            exec(compile(code, f"block {i} of docs/python.md", "exec", dont_inherit=True), found)
    said = capsys.readouterr().out
    assert "unknown sensor heart" in said
    assert "(2, 2)" in said
