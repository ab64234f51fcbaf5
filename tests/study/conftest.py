"""One small study, run once through the command line, with a recording that works and one that cannot."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentryfuse.cli import main
from sentryfuse.data import load_windows, save_windows
from tests.cli.conftest import Done, write_recording

__all__ = ["Done"]


def tiny_study(**changes: Any) -> dict[str, Any]:
    """A design of seconds: one backbone, one recording of two sensors, one epoch."""
    design = {
        "backbones": ["mult"],
        "datasets": {"tiny": {"file": "tiny.npz", "turns": [{"seed": 0}]}},
        "trainings": ["gate"],
        "ratios": [0.5],
        "missing_rates": [0.0, 0.4],
        "protocols": ["present", "full"],
        "methods": [{"scorer": "gate"}, {"scorer": "magnitude", "sensors": "blind"}],
        "windows": 30,
        "epochs": 1,
    }
    return design | changes


@dataclass(frozen=True)
class Place:
    """A study that was run: its folder, its recordings, its design and what the command said."""

    out: Path
    data: Path
    design: Path
    done: Done

    @property
    def lines(self) -> list[dict[str, Any]]:
        text = (self.out / "lines.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run a command in this process, as the installed script does."""

    def run(*argv: object) -> Done:
        capfd.readouterr()
        code = main([str(word) for word in argv])
        return Done(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("study")
    data = folder / "data"
    data.mkdir()
    write_recording(data / "tiny.npz")
    whole = load_windows(data / "tiny.npz")
    lame = replace(whole, split=np.where(whole.split == 1, 0, whole.split))  # nobody to validate with
    save_windows(data / "lame.npz", lame)
    design = folder / "design.json"
    recordings = {name: {"file": f"{name}.npz", "turns": [{"seed": 0}]} for name in ("lame", "tiny")}
    design.write_text(json.dumps(tiny_study(datasets=recordings)), encoding="utf-8")
    out = folder / "out"
    facts = folder / "facts.json"
    made = [
        "study",
        "--design",
        design,
        "--data",
        data,
        "--out",
        out,
        "--jobs",
        1,
        "--json",
        facts,
        "--quiet",
    ]
    code = main([str(word) for word in made])
    return Place(out, data, design, Done(code, facts.read_text(encoding="utf-8"), ""))
