"""The code of docs/tasks.md runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from tests.few_trees import few_trees

DOCS = Path(__file__).resolve().parent.parent / "docs" / "tasks.md"


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL))
def test_the_python_of_the_page_runs(code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with few_trees():
        exec(compile(code, "a block of docs/tasks.md", "exec", dont_inherit=True), {"__name__": "tasks"})
    assert float(capsys.readouterr().out) > 0.5
