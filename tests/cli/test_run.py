"""The story of `sentryfuse run`: a recording as a stream, a meter that runs down, lines for machines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np

from sentryfuse.data import load_windows


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_run_answers_a_recording_as_predict_does(command, recording, bundle, tmp_path):
    told = command("run", bundle, "--source", f"replay:{recording}", "--json", "-")
    assert told.code == 0
    *rows, summary = lines(told.out)
    windows = load_windows(recording)
    chosen = windows.indices("test")
    assert [row["window_id"] for row in rows] == list(range(len(chosen)))
    assert {row["kind"] for row in rows} == {"window"}
    assert summary["kind"] == "summary"
    assert summary["windows"] == len(rows)
    assert {row["status"] for row in rows} == {"OK"} == set(summary["statuses"])
    right = np.mean(
        [row["answer"] == windows.classes[y] for row, y in zip(rows, windows.y[chosen], strict=True)]
    )
    predicted = command("predict", bundle, "--data", recording, "--json", "-").json["rows"][0]
    assert right == predicted["accuracy"]
    assert rows[0]["macs"] == predicted["macs"]


def test_run_follows_a_trace_by_a_policy_and_writes_down_what_happened(command, recording, bundle, tmp_path):
    trace, events, out = tmp_path / "trace.csv", tmp_path / "events.jsonl", tmp_path / "out.jsonl"
    trace.write_text("time_s,charge\n0,1\n12,0.4\n", encoding="utf-8")
    shown = command(
        "run", bundle, "--source", f"replay:{recording}", "--windows", 30, "--json", out, "--events", events,
        "--trace", trace, "--policy", "100%:ratio=0,50%:ratio=0.5;dwell_s=1",
    )  # fmt: skip
    assert shown.code == 0
    assert "30 windows: 30 OK; 2 sub-networks" in shown.out
    assert "wrist_acc" in shown.out
    *rows, summary = lines(out.read_text(encoding="utf-8"))
    macs = [row["macs"] for row in rows]
    assert len(macs) == 30
    assert macs == sorted(macs, reverse=True)
    assert len(set(macs)) == 2
    assert {row["energy_label"] for row in rows} == {"replayed"}
    kinds = [line["kind"] for line in lines(events.read_text(encoding="utf-8"))]
    assert kinds.count("switch") == kinds.count("budget") == 1
    assert summary["events"]["switch"] == 1


def test_run_is_stopped_by_hand_and_still_says_what_there_was(recording, bundle, tmp_path):
    out = tmp_path / "out.jsonl"
    argv = ["run", bundle, "--source", f"replay:{recording}?speed=20", "--json", out, "--quiet"]
    process = subprocess.Popen([sys.executable, "-m", "sentryfuse", *map(str, argv)])
    for _ in range(600):
        if out.is_file() and out.stat().st_size:
            break
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(timeout=30) == 0
    *rows, summary = lines(out.read_text(encoding="utf-8"))
    assert summary["kind"] == "summary"
    assert summary["windows"] == len(rows) > 0
