"""docs/power.md keeps its promises."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sentryfuse.power import Policy, open_reader, read_policy
from sentryfuse.power.reader import SPECS
from sentryfuse.power.reading import EVIDENCE

pytestmark = pytest.mark.device

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "power.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("code", blocks("python"))
def test_the_python_runs_on_any_machine(code):
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("text", blocks("json"))
def test_the_policy_file_is_one(text):
    assert len(Policy.from_json(json.loads(text)).levels) == 3


@pytest.mark.parametrize("text", re.findall(r"^\| `(\d+[%W][^`]*)` \|", PAGE, re.MULTILINE))
def test_the_short_policies_are_policies(text):
    assert len(read_policy(text).levels) >= 2


def test_the_trace_is_one(tmp_path):
    (text,) = blocks("csv")
    (tmp_path / "day.csv").write_text(text)
    assert open_reader(f"trace:{tmp_path / 'day.csv'}", needs="charge", now_s=0.0).read(700.0).charge == 0.48


@pytest.mark.parametrize("word", [*SPECS, *EVIDENCE])
def test_every_meter_and_label_is_told(word):
    assert word in PAGE
