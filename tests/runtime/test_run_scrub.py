"""The story of a run whose memory changes: bits are turned from outside, in a process that answers."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.reliability.flips import OfProcess
from sentryfuse.bundle import load_bundle
from sentryfuse.data import save_windows
from sentryfuse.runtime import Runtime
from sentryfuse.stream import open_source
from tests.rewritten import favour
from tests.tiny import tiny_windows

pytestmark = [
    pytest.mark.device,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks through /proc"),
]

SCRUB_S = 0.5
EXPONENT = 30


def rows(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def answers(bundle: Path, source: str) -> list[list[float]]:
    """Of every window, by a bundle that nobody touches."""
    loaded = load_bundle(bundle)
    with open_source(source, loaded.layout.modalities) as stream, Runtime(loaded, stream) as runtime:
        return [result.to_json()["probabilities"] for result in runtime]


def test_bits_that_turn_in_bundle_and_engine_are_found_and_put_right_while_windows_go_on(tmp_path):
    bundle = favour(tmp_path / "model.bundle", 0.123)
    recording, out, events = (tmp_path / name for name in ("r.npz", "out.jsonl", "events.jsonl"))
    save_windows(recording, tiny_windows(1200))
    argv = ["run", bundle, "--source", f"replay:{recording}?speed=60&split=all", "--scrub-s", SCRUB_S]
    argv += ["--json", out, "--events", events, "--quiet"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sentryfuse", *map(str, argv)], stderr=subprocess.PIPE, text=True
    )

    def wait(enough: Callable[[], bool]) -> None:
        for _ in range(600):
            if enough():
                return
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        raise AssertionError(f"not within 30 s: {rows(events)}")

    def told(kind: str, part: str) -> list[dict[str, Any]]:
        return [row for row in rows(events) if row["kind"] == kind and row["part"] == part]

    bias = load_bundle(bundle).weights["head.classify.bias"].tobytes()
    content = bundle.read_bytes()
    at = content.index(bias)
    turned_s, right_s = [], []  # between which answers may be wrong
    try:
        wait(lambda: len(rows(out)) > 20)
        memory = OfProcess(process.pid)
        try:
            (whole,) = memory.find(content[at - 64 : at + 64])  # as it lies among the tensors of the file
            memory.flip(whole + 64, EXPONENT)
        except PermissionError as error:
            pytest.skip(f"this system does not let us into another process: {error}")
        wait(lambda: bool(told("memory_renewed", "bundle")))
        n = len(rows(out))
        wait(lambda: len(rows(out)) > n + 10)
        turned_s.append(time.monotonic())
        (whole,) = memory.find(content[at - 64 : at + 64])
        for address in {*memory.find(bias)} - {whole + 64}:
            memory.flip(address, EXPONENT)
        wait(lambda: bool(told("memory_renewed", "engine")))
        right_s.append(told("memory_renewed", "engine")[0]["at_s"])
        n = len(rows(out))
        wait(lambda: len(rows(out)) > n + 10)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, said
    *windows, summary = rows(out)
    assert [row["window_id"] for row in windows] == list(range(len(windows)))
    assert {row["status"] for row in windows} <= {"OK", "DEGRADED"}
    assert summary["memory"]["faults"] == {"bundle": 1, "engine": 1}
    (fault,) = told("memory_fault", "bundle")
    assert fault["what"] == "weights.head.classify.bias"
    (fault,) = told("memory_fault", "engine")
    assert fault["what"] == "transformer"
    right = answers(bundle, f"replay:{recording}?split=all")
    differ = [row["at_s"] for row in windows if row["probabilities"] != right[row["window_id"]]]
    assert all(turned_s[0] - 0.1 <= at_s <= right_s[0] for at_s in differ)
