"""`sentryfuse run` on a real broker: passwords nobody sees, a broker killed midway, answers sent back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentryfuse.bundle import load_bundle
from tests.stream.test_mqtt import MOSQUITTO, broker, free_port
from tests.tiny import GOLDEN

pytest.importorskip("paho.mqtt", reason="paho-mqtt is not installed; pip install 'sentryfuse[mqtt]'")
pytestmark = [
    pytest.mark.device,
    pytest.mark.skipif(MOSQUITTO is None, reason="no mosquitto broker here; apt-get install mosquitto"),
]
BUNDLE = GOLDEN / "tiny-v3.bundle"


class Feed(threading.Thread):
    """Sends what a healthy wearer would, and keeps what is answered; goes on when the broker is away."""

    def __init__(self, port: int) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        super().__init__(daemon=True)
        self.stopped = threading.Event()
        self.heard: list[tuple[str, dict[str, Any], bool]] = []
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe("out/#")
        self._client.on_message = lambda client, data, message: self.heard.append(
            (message.topic, json.loads(message.payload), message.retain)
        )
        self._client.connect_async("127.0.0.1", port)
        self._client.loop_start()

    def run(self) -> None:
        bundle = load_bundle(BUNDLE)
        rng, begin, sent = np.random.default_rng(0), time.time(), dict.fromkeys(bundle.names, 0)
        while not self.stopped.wait(0.1):
            for m in bundle.layout.modalities:
                n = int((time.time() - begin) * m.rate_hz) - sent[m.name] if m.rate_hz else 1
                if n < 1:
                    continue
                mean, std = (bundle.weights[f"embed.{m.name}.normalise.{leaf}"] for leaf in ("mean", "std"))
                values = (mean + std * rng.standard_normal((n, len(mean)))).tolist()
                told = {"ts": int(1e3 * (begin + sent[m.name] / m.rate_hz)), "seq": n} if m.rate_hz else {}
                self._client.publish(f"in/{m.name}", json.dumps({"values": values, **told}))
                sent[m.name] += n
        self._client.disconnect()
        self._client.loop_stop()


def started(port: int, out: Path, events: Path, *more: str) -> subprocess.Popen[str]:
    url = f"mqtt://127.0.0.1:{port}"
    argv = ["run", BUNDLE, "--source", f"{url}/in", "--publish", f"{url}/out", "--hop-s", "0.5", *more]
    argv += ["--json", out, "--events", events]
    return subprocess.Popen(
        [sys.executable, "-m", "sentryfuse", *map(str, argv)], stderr=subprocess.PIPE, text=True
    )


def said(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    with process.stderr as stream:
        return stream.read()


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def wait_for(what, seconds=40.0):
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.1)


@pytest.mark.slow
def test_a_broker_killed_in_the_middle_loses_its_own_windows_only(tmp_path):
    port, out, events = free_port(), tmp_path / "out.jsonl", tmp_path / "events.jsonl"

    def answered(since=0.0):
        found = rows(out) if out.is_file() else []
        return [row for row in found if row["kind"] == "window" and row["answer"] and row["at_s"] > since]

    feed = Feed(port)
    feed.start()
    process = started(port, out, events)
    try:
        with broker(tmp_path, port):  # not there at the start
            wait_for(lambda: len(answered()) >= 3)
        gone = time.monotonic()
        wait_for(lambda: rows(out)[-1]["status"] == "REFUSED")
        with broker(tmp_path, port):
            wait_for(lambda: len(answered(gone + 2)) >= 3)
            wait_for(lambda: any(topic == "out/answer" for topic, *_ in feed.heard))
            process.terminate()
            assert process.wait(30) == 0
            wait_for(lambda: ("out/status", "stopped") in [(t, m.get("status")) for t, m, _ in feed.heard], 5)
    finally:
        process.kill()
        feed.stopped.set()
        feed.join()
    *windows, summary = rows(out)
    assert summary["stopped"] == "SIGTERM"
    assert [row["window_id"] for row in windows] == list(range(len(windows)))
    kinds = [row["kind"] for row in rows(events)]
    assert kinds.count("source_lost") >= 1
    assert kinds.count("source_back") >= 1
    assert {row["run_id"] for row in [*windows, summary, *rows(events)]} == {summary["run_id"]}
    assert "source_lost" in said(process)


@pytest.mark.slow
def test_a_run_that_dies_is_said_to_be_lost_and_its_password_is_nowhere(tmp_path, monkeypatch):
    port, out, events = free_port(), tmp_path / "out.jsonl", tmp_path / "events.jsonl"
    monkeypatch.setenv("SENTRYFUSE_MQTT_USER", "nurse")
    monkeypatch.setenv("SENTRYFUSE_MQTT_PASSWORD", "s3cret!")
    feed = Feed(port)
    with broker(tmp_path, port):
        process = started(port, out, events)
        try:
            status = lambda: [m["status"] for topic, m, _ in feed.heard if topic == "out/status"]  # noqa: E731
            wait_for(lambda: "online" in status())
            seen = Path(f"/proc/{process.pid}/cmdline")
            assert not seen.exists() or b"s3cret" not in seen.read_bytes()
            os.kill(process.pid, 9)
            wait_for(lambda: "lost" in status())
        finally:
            process.kill()
            feed.stopped.set()
            feed.start()
            feed.join()
    assert "s3cret" not in said(process)


def test_messages_nobody_understands_are_said_once(tmp_path):
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    port, out, events = free_port(), tmp_path / "out.jsonl", tmp_path / "events.jsonl"
    client = Client(CallbackAPIVersion.VERSION2)
    with broker(tmp_path, port):
        client.connect("127.0.0.1", port)
        client.loop_start()
        process = started(port, out, events, "--windows", "3")
        while process.poll() is None:
            client.publish("in/acc", "\x1b[31mwet\n")
            time.sleep(0.05)
        client.disconnect()
        client.loop_stop()
    text = said(process)
    assert text.count("unreadable sensor=acc") == 1
    assert "\x1b" not in text
    *windows, summary = rows(out)
    assert {row["verdicts"]["acc"] for row in windows[1:]} == {"unreadable"}
    assert summary["sensors"]["acc"]["malformed"] > 3
    assert summary["events"]["unreadable"] == 1
