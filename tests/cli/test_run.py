"""The story of `sentryfuse run`: a recording as a stream, a meter that runs down, lines for machines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import sentryfuse
from sentryfuse.bundle import load_bundle
from sentryfuse.data import load_windows, save_windows


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


def test_lines_are_appended_and_full_files_rotated_where_asked(command, recording, bundle, tmp_path):
    out, run = tmp_path / "out.jsonl", ["run", bundle, "--source", f"replay:{recording}", "--windows", 10]
    for options, runs in (([], 1), (["--append"], 2), (["--append"], 3), ([], 1)):
        assert command(*run, "--json", out, "--quiet", *options).code == 0
        rows = lines(out.read_text(encoding="utf-8"))
        assert [row["kind"] for row in rows] == (["window"] * 10 + ["summary"]) * runs
    for _ in range(2):
        shown = command(*run, "--json", out, "--quiet", "--rotate-mb", 0.004, "--rotate-keep", 20)
        assert shown.code == 0, shown.err
    older = sorted(tmp_path.glob("out.jsonl.*"), key=lambda path: -int(path.suffix[1:]))
    files = [*older, out]
    rows = [row for path in files for row in lines(path.read_text(encoding="utf-8"))]
    assert len(files) > 4
    assert [row["kind"] for row in rows] == (["window"] * 10 + ["summary"]) * 3
    assert len({row["run_id"] for row in rows}) == 3
    (tmp_path / "old.1").write_bytes(bundle.read_bytes())
    argv = ["run", tmp_path / "old.1", "--source", f"replay:{recording}", "--rotate-mb", 1]
    refused = command(*argv, "--json", tmp_path / "old")
    assert refused.code == 2
    assert "is the bundle, which it would destroy" in refused.err


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_run_is_stopped_and_still_says_what_there_was(recording, bundle, tmp_path, how):
    out = tmp_path / "out.jsonl"
    argv = ["run", bundle, "--source", f"replay:{recording}?speed=2&split=all", "--json", out, "--quiet"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sentryfuse", *map(str, argv)],
        preexec_fn=lambda: signal.signal(how, signal.SIG_DFL),  # under nohup SIGHUP would stay ignored
    )
    for _ in range(600):
        if out.is_file() and out.stat().st_size:
            break
        time.sleep(0.05)
    os.kill(process.pid, how)
    assert process.wait(timeout=30) == 0
    *rows, summary = lines(out.read_text(encoding="utf-8"))
    assert summary["kind"] == "summary"
    assert summary["windows"] == len(rows) > 0
    assert summary["stopped"] == how.name


def test_every_line_names_the_run_the_version_and_the_bundle(command, recording, bundle, tmp_path):
    out, events = tmp_path / "out.jsonl", tmp_path / "events.jsonl"
    for _ in range(2):
        shown = command(
            "run", bundle, "--source", f"replay:{recording}", "--windows", 3, "--json", out,
            "--events", events, "--ratio", 0.6, "--health", "range_stds=1,max_clipped=0", "--quiet",
        )  # fmt: skip
        assert shown.code == 0
    told = lines(events.read_text(encoding="utf-8"))
    rows = lines(out.read_text(encoding="utf-8"))
    assert len(rows) == 4  # of the second run only
    stamps = {(row["run_id"], row["version"], row["bundle"]) for row in rows}
    assert stamps == {(told[-1]["run_id"], sentryfuse.__version__, load_bundle(bundle).digest[:12])}
    assert len({row["run_id"] for row in told}) == 2


def test_what_is_logged_names_its_run(command, recording, bundle, tmp_path):
    out = tmp_path / "out.jsonl"
    argv = ["run", bundle, "--source", f"replay:{recording}", "--windows", 3, "--json", out, "--quiet"]
    shown = command(*argv, "--log", "info", "--health", "range_stds=1,max_clipped=0")
    assert shown.code == 0
    run_id = lines(out.read_text(encoding="utf-8"))[0]["run_id"]
    told = [line for line in shown.err.splitlines() if "sensor_lost" in line]
    assert told
    assert all(line.endswith(f" run_id={run_id}") for line in told)


def test_run_never_writes_over_what_it_reads(command, recording, bundle, tmp_path):
    before = bundle.read_bytes(), recording.read_bytes()
    link = tmp_path / "link"
    link.symlink_to(bundle)
    one = tmp_path / "one.jsonl"
    for options, said in (
        (["--json", bundle], "is the bundle"),
        (["--events", link], "is the bundle"),
        (["--json", recording], "is the recording"),
        (["--json", one, "--events", one], "is the file of --json"),
    ):
        refused = command("run", bundle, "--source", f"replay:{recording}", *options)
        assert refused.code == 2
        assert said in refused.err
    refused = command("bench", bundle, "--json", bundle)
    assert "is the bundle" in refused.err
    assert (bundle.read_bytes(), recording.read_bytes()) == before


def test_files_that_take_nothing_are_named_at_the_end(command, recording, bundle, tmp_path):
    argv = ["run", bundle, "--source", f"replay:{recording}", "--windows", 3]
    for option in ("--json", "--events"):
        shown = command(*argv, option, "/dev/full", "--ratio", 0.5, "--health", "range_stds=1,max_clipped=0")
        assert shown.code == 2
        assert "3 windows" in shown.out
        assert "/dev/full takes no more lines: no space left on device" in shown.err
        assert "error: /dev/full did not take" in shown.err
    os.mkfifo(tmp_path / "fifo")
    shown = command(*argv, "--json", tmp_path / "fifo")
    assert shown.code == 2
    assert "nobody reads this FIFO" in shown.err


def test_a_run_without_any_answer_may_be_a_failure(command, recording, bundle, tmp_path):
    sensors = ",".join(f"stuck_samples_of.{m.name}=2" for m in load_bundle(bundle).layout.modalities)
    recorded = load_windows(recording)
    still = {name: np.zeros_like(x) for name, x in recorded.raw.items()}
    save_windows(tmp_path / "still.npz", replace(recorded, raw=still))
    argv = [
        "run",
        bundle,
        "--source",
        f"replay:{tmp_path / 'still.npz'}",
        "--windows",
        3,
        "--health",
        sensors,
    ]
    shown = command(*argv)
    assert shown.code == 0
    assert "3 REFUSED" in shown.out
    shown = command(*argv, "--need-answers")
    assert shown.code == 2
    assert "none of 3 windows was answered" in shown.err


def test_standard_output_may_be_closed(recording, bundle, tmp_path):
    argv = [sys.executable, "-m", "sentryfuse", "run", bundle, "--source", f"replay:{recording}"]
    for more, code in (([], 0), (["--json", "-"], 2)):
        done = subprocess.run(
            ["sh", "-c", 'exec "$@" >&-', "sh", *map(str, argv + more)], capture_output=True, text=True
        )
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
