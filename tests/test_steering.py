"""No text from a file steers a terminal, and no module of the current folder is run by a child process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfuse.cli import main
from sentryfuse.progress import visible

ROOT = Path(__file__).resolve().parent.parent
EVIL = "CC\x1b[2J\x1b]0;owned\x07\x9b31m\x7f\u202eevil\r!"


@given(st.text())
def test_what_is_visible_keeps_text_and_holds_no_control_character(text):
    shown = visible(text)
    assert not [c for c in shown if unicodedata.category(c) == "Cc" and c not in "\t\n"]
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    assert visible(shown) == shown


@given(st.text())
def test_json_says_the_same_afterwards(text):
    for ascii_only in (True, False):
        assert json.loads(visible(json.dumps({text: [text]}, ensure_ascii=ascii_only))) == {text: [text]}


def write(path: Path, **more: object) -> Path:
    rng = np.random.default_rng(0)
    arrays = {
        "modalities": np.array(["acc"]),
        "x_acc": rng.standard_normal((60, 20, 3)).astype("f4"),
        "rate_acc": 20.0,
        "y": rng.integers(0, 2, 60),
        "classes": np.array(["a", "b"]),
        "subject": np.repeat(np.arange(6), 10),
        **more,
    }
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})  # type: ignore[arg-type]
    return path


def steers(text: str) -> bool:
    return any(c in text for c in "\x1b\x07\x9b\x7f\u202e\r")


@pytest.mark.parametrize(
    "more",
    [
        {"licence": np.array(EVIL)},
        {
            "task": np.array("regression"),
            "unit": np.array(EVIL),
            "y": np.arange(60.0),
            "classes": np.array(["v"]),
        },
        {"modalities": np.array([EVIL])},
        {"classes": np.array(["a", EVIL])},
        {"channels_acc": np.array(["x", "y", EVIL])},
        {"split": np.array([EVIL] * 60)},
        {"subject": np.array([EVIL] * 60)},
        {"task": np.array(EVIL)},
        {f"x_{EVIL}": np.zeros(3), "modalities": np.array([EVIL])},
    ],
    ids=lambda more: next(iter(more)).encode("ascii", "replace").decode()[:12].replace("\x1b", "e"),
)
@pytest.mark.parametrize("how", [[], ["--json", "-"]], ids=["table", "json"])
def test_texts_of_a_recording_do_not_steer_the_terminal(more, how, tmp_path, capsys):
    code = main(["data", "describe", str(write(tmp_path / "d.npz", **more)), *how])
    told = capsys.readouterr()
    assert code in (0, 2)
    assert told.out or told.err
    assert not steers(told.out + told.err)
    if "licence" in more:
        assert "evil" in told.out


def test_names_of_files_and_texts_of_a_recipe_do_not_steer_the_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "describe", f"{EVIL}.npz"]) == 2
    (tmp_path / "recipe.toml").write_text(
        'name = "\\u001b[2Jx"\nlicence = "\\u001b[2J"\nfiles = "\\u001b[2J*.csv"\n', encoding="utf-8"
    )
    assert main(["data", "make", "recipe.toml", "--out", "o.npz"]) == 2
    told = capsys.readouterr()
    assert "error:" in told.err
    assert not steers(told.out + told.err)


def test_a_worker_of_a_study_runs_no_module_of_the_current_folder(tmp_path):
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    for folder in (here, elsewhere):
        folder.mkdir()
    for name in ("socket", "numpy", "safetensors", "torch", "tempfile"):
        (here / f"{name}.py").write_text(f"open('{name}.ran', 'w').close()\nraise SystemExit(3)\n")
    script = elsewhere / "starts.py"  # so that its own first place for modules is not the current folder
    script.write_text(
        "import os\n"
        "from sentryfuse.study.executors import LocalExecutor\n"
        "if __name__ == '__main__':\n"
        "    executor = LocalExecutor(1)\n"
        "    worker = executor._start()\n"
        "    worker.link.poll(3)\n"
        "    print(worker.process.is_alive(), 'PYTHONSAFEPATH' in os.environ)\n"
        "    executor.close()\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    env.pop("PYTHONSAFEPATH", None)
    done = subprocess.run(
        [sys.executable, script], cwd=here, env=env, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["True", "False"], done.stderr
    assert [path.name for path in here.glob("*.ran")] == []


def test_no_other_place_starts_python_without_safe_path():
    for path in sorted((ROOT / "sentryfuse").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        assert text.count("sys.executable") == text.count('sys.executable, "-P"'), path
        if "get_context" in text or "ProcessPoolExecutor" in text:
            assert "PYTHONSAFEPATH" in text, path
