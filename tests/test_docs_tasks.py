"""The code of docs/tasks.md runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs" / "tasks.md"


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL))
def test_the_python_of_the_page_runs(code, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0.5
