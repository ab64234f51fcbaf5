"""docs/own_encoder.md keeps its promises: its Python runs, and it lists the operators that are known."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "own_encoder.md").read_text(encoding="utf-8")
CODE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_operators_that_are_told_are_those_that_are_known():
    from sentryfuse.model.tracing import known

    (told,) = re.findall(r"<!-- operators -->\n(.*?)<!-- /operators -->", PAGE, re.DOTALL)
    assert re.findall(r"`(\w+)`", told) == known(), ", ".join(f"`{name}`" for name in known())


@pytest.mark.slow
def test_the_python_runs_from_top_to_bottom(tmp_path):
    (tmp_path / "page.py").write_text("\n\n".join(CODE), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "page.py"], check=False, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "MAC, without the pulse" in done.stdout
    assert "frozen 0_0_layers_0_weight (16, 1, 9)" in done.stdout
    assert re.search(
        r"the encoder of bvp: aten.cumsum cannot .*page.py, line \d+: return x.cumsum", done.stdout
    )
    assert {path.name for path in tmp_path.iterdir()} == {"page.py", "trained", "model.bundle"}
