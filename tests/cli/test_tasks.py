"""Numbers and several labels at once, through every command."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from sentryfuse.data import load_windows, make_windows, save_windows
from sentryfuse.target import Target
from sentryfuse.types import Modality

MODALITIES = (Modality("a", 20.0, 20, ("x",)), Modality("b", 20.0, 20, ("u", "v")))
PEOPLE = 10


def write(path, task: str):
    """Two sensors; the level of one and the speed of the other are what is asked for."""
    rng = np.random.default_rng(0)
    n = 300
    who, t = np.arange(n) % PEOPLE, np.arange(20) / 20
    level, speed = rng.normal(size=n), rng.uniform(1, 6, n)
    wave = np.sin(2 * np.pi * speed[:, None] * t) + 0.3 * rng.normal(size=(n, 20))
    raw = {
        "a": wave[..., None].astype(np.float32),
        "b": (level[:, None, None] + 0.5 * rng.normal(size=(n, 20, 2))).astype(np.float32),
    }
    if task == "regression":
        y, names, target = 60 + 10 * level + 5 * speed, ["pulse"], Target("regression", "bpm")
    else:
        y = np.stack([level > 0, speed > 3.5], axis=1)
        names, target = ["high", "fast"], Target("multilabel")
    save_windows(
        path, make_windows("made", MODALITIES, raw=raw, y=y, classes=names, subject=who, target=target)
    )
    return path


@pytest.fixture(scope="module", params=["regression", "multilabel"])
def made(request, tmp_path_factory, one_thread):
    """A recording of one task, and a run trained on it."""
    from sentryfuse.cli import main

    folder = tmp_path_factory.mktemp(request.param)
    recording = write(folder / "made.npz", request.param)
    asked = ["train", "--data", recording, "--out", folder / "run", "--epochs", 2, "--quiet"]
    assert main([str(word) for word in asked]) == 0
    asked = ["export", folder / "run", "--out", folder / "made.bundle", "--quiet"]
    assert main([str(word) for word in asked]) == 0
    return request.param, recording, folder


def test_a_recording_says_what_is_asked_for(made, command):
    task, recording, _ = made
    assert load_windows(recording).target.task == task
    told = command("data", "describe", recording, "--json", "-").json
    assert told["task"] == task
    if task == "regression":
        assert told["splits"]["train"]["values"]["pulse"]["min"] < 60
    else:
        assert told["classes"]["high"] > 100


def test_the_scores_are_those_of_the_task(made, command):
    task, recording, folder = made
    row = command("evaluate", folder / "run", "--data", recording, "--json", "-").json["rows"][0]
    by_bundle = command("predict", folder / "made.bundle", "--data", recording, "--json", "-").json
    key = "r2" if task == "regression" else "map"
    assert row[key] > 0.8
    assert by_bundle["rows"][0][key] == pytest.approx(row[key], abs=1e-3)


def test_compare_asks_those_who_answer_the_same(made, command):
    task, recording, folder = made
    rival = "ridge regression" if task == "regression" else "logistic regression"
    found = command(
        "compare", folder / "made.bundle", "--data", recording, "--rival", rival, "--json", "-"
    ).json
    assert found["measure"] == ("r2" if task == "regression" else "map")
    assert {row["system"] for row in found["rows"]} == {"ours", rival}
    refused = command("compare", folder / "made.bundle", "--data", recording, "--rival", "LDA")
    assert refused.code == 2
    assert rival in refused.err


def test_answers_are_numbers_or_labels(made, command):
    task, recording, folder = made
    out = folder / "answers.csv"
    assert command("predict", folder / "made.bundle", "--data", recording, "--out", out).code == 0
    with out.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 300
    windows = load_windows(recording)
    if task == "regression":
        assert "p_pulse" not in rows[0]
        answered = np.array([float(row["answer"]) for row in rows])
        assert np.corrcoef(answered, windows.y[:, 0])[0, 1] > 0.9
    else:
        p = np.array([float(row["p_high"]) for row in rows])
        assert ((p > 0.5) == (windows.y[:, 0] > 0)).mean() > 0.9
        assert all((float(row["p_fast"]) >= 0.5) == ("fast" in row["answer"].split("+")) for row in rows)


def test_a_stream_is_answered(made, command):
    task, recording, folder = made
    lines = folder / "lines.jsonl"
    source = f"replay:{recording}"
    asked = ("run", folder / "made.bundle", "--source", source, "--windows", 3)
    assert command(*asked, "--json", lines, "--quiet").code == 0
    found = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    answered = [line for line in found if line.get("answer") is not None]
    assert answered
    assert isinstance(answered[0]["answer"], float if task == "regression" else str)


def test_a_report_speaks_of_the_score(made, command):
    task, recording, folder = made
    rows = folder / "scores.json"
    command("evaluate", folder / "run", "--data", recording, "--ratio", 0, "--ratio", 0.8, "--json", rows)
    assert command("report", rows, "--out", folder / "report.html").code == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert ("R2" if task == "regression" else "mean average precision") in page


def test_a_recording_of_another_task_is_refused(made, command, recording):
    task, _, folder = made
    refused = command("evaluate", folder / "run", "--data", recording)
    assert refused.code == 2
    assert task in refused.err or "sensors" in refused.err


def test_classes_alone_can_be_balanced(made, command):
    _, recording, folder = made
    refused = command("train", "--data", recording, "--out", folder / "more", "--balance")
    assert refused.code == 2
    assert "has none" in refused.err
