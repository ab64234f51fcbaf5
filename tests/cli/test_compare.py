"""`sentryfuse compare`, and docs/compare.md keeps its promises."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sentryfuse.cli import main
from sentryfuse.rivals.models import RIVALS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "compare.md").read_text(encoding="utf-8")
QUICK = ("--rival", "LDA", "--rival", "sum of LDAs per sensor", "--threads", 1)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_a_bundle_and_its_folder_are_compared_alike(command, recording, run_folder, bundle):
    asked = ["--data", recording, "--ratio", 0, "--ratio", 0.6, *QUICK, "--json", "-"]
    device, folder = (command("compare", source, *asked) for source in (bundle, run_folder))
    assert device.code == folder.code == 0
    assert "rivals" not in device.out.splitlines()[0]
    told = device.json
    assert (told["dataset"], told["backbone"], told["split"], told["seed"], told["fold"]) == (
        "tiny",
        "maestro",
        "test",
        3,
        None,
    )
    assert told["rivals"]["fitted_on"] == ["train", "validation"]
    assert told["rivals"]["n_windows"] + told["rows"][0]["n_windows"] == 200
    assert told["measure"] == "accuracy"
    assert [(row["system"], row["ratio"]) for row in told["rows"][:4]] == [
        ("ours", 0.0),
        ("ours", 0.6),
        ("LDA", None),
        ("sum of LDAs per sensor", None),
    ]
    assert {row["presence"] for row in told["rows"]} == {"all", "one missing"}
    assert len(told["rows"]) == 8
    assert re.match(r"by accuracy, .+ with all sensors, and .+ with one missing$", told["verdict"])
    for left, right in zip(told["rows"], folder.json["rows"], strict=True):
        assert {k: v for k, v in left.items() if k != "time_ms"} == pytest.approx(
            {k: v for k, v in right.items() if k != "time_ms"}
        )


def test_people_see_one_table_and_the_verdict(command, recording, bundle, tmp_path):
    target = tmp_path / "compare.json"
    done = command("compare", bundle, "--data", recording, "--ratio", 0, *QUICK, "--json", target)
    assert done.code == 0
    for word in ("ours, r = 0", "LDA", "macro F1", "one window [ms]", "size [MB]"):
        assert word in done.out
    verdict = json.loads(target.read_text(encoding="utf-8"))["verdict"]
    assert done.out.rstrip().endswith(verdict)


def test_people_are_split_as_the_model_was_trained(command, recording, tmp_path):
    run = tmp_path / "run"
    plain = ["--epochs", 1, "--elastic", "none", "--fold", "1/5", "--quiet"]
    assert command("train", "--data", recording, "--out", run, *plain).code == 0
    asked = ["compare", run, "--data", recording, "--ratio", 0, "--rival", "LDA", "--json", "-"]
    assert command(*asked).json["fold"] == "1/5"
    assert command(*asked, "--fold", "1/5").code == 0
    refused = command(*asked, "--fold", "2/5")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "its fold is 1/5" in refused.err


def test_a_missing_scikit_learn_is_one_sentence(command, monkeypatch, recording, bundle):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    done = command("compare", bundle, "--data", recording)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "pip install 'sentryfuse[compare]'" in done.err


@pytest.mark.parametrize("rival", RIVALS)
def test_every_rival_is_told(rival):
    assert rival in PAGE


@pytest.fixture
def folder(tmp_path, monkeypatch, recording, run_folder, bundle):
    """Where the page's commands work."""
    shutil.copy(recording, tmp_path / "mine.npz")
    shutil.copy(bundle, tmp_path / "mine.bundle")
    shutil.copytree(run_folder, tmp_path / "runs" / "mine")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_commands_of_the_page_run(folder, capsys):
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("sentryfuse")]
    assert lines
    for line in lines:
        assert main(shlex.split(line, comments=True)[1:]) == 0, capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("code", blocks("python"))
def test_the_python_of_the_page_runs(folder, code):
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "by accuracy" in done.stdout
