"""A program: sends what a healthy wearer would over MQTT, and writes down what the broker has taken.

    python -m benchmarks.reliability.publisher PORT LOG [--sensors acc,temp] [--chaos SEED]

One JSON line when a message goes out, and one when the broker has confirmed it: its sensor, when its first
sample was taken and when that was, all monotonic [s]; or that it was not sent, since there was no broker.
`--chaos` sends messages twice, late and out of order, and rubbish between them.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reliability.processes import HERE
from sentryfuse.bundle import Bundle, load_bundle
from sentryfuse.types import Modality

ROOT = Path(__file__).resolve().parent.parent.parent
BUNDLE = ROOT / "tests" / "golden" / "tiny-v3.bundle"
PREFIX = "in"
EVERY_S = 0.25  # a message of each sensor
_TWICE, _LATE, _RUBBISH = 0.05, 0.1, 0.05  # share of messages
_LATEST_S = 0.3


class Publisher:
    """Sends samples of some sensors from now on.

    Args:
        port: of the broker.
        log: file of lines, appended to.
        sensors: names; all of the bundle when empty.
        chaos: seed of what goes wrong; `None` lets nothing go wrong.
    """

    def __init__(self, port: int, log: Path, *, sensors: tuple[str, ...], chaos: int | None) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        bundle = load_bundle(BUNDLE)
        names = sensors or bundle.names
        self._modalities = [m for m in bundle.layout.modalities if m.name in names]
        self._scale = {m.name: scale_of(bundle, m) for m in self._modalities}
        self._chance = None if chaos is None else random.Random(chaos)
        self._rng = np.random.default_rng(chaos or 0)
        self._log = log.open("a", encoding="utf-8", buffering=1)
        self._lock = threading.Lock()
        self._waiting: dict[int, dict[str, Any]] = {}  # sent and not confirmed, by the client's number
        self._early: dict[int, float] = {}  # confirmed before `publish` has told the number [s]
        self._held: list[tuple[float, Modality, dict[str, Any], str]] = []  # to be sent later
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_publish = self._confirmed
        self._client.connect_async(HERE, port)
        self._client.loop_start()

    def run(self, stopped: threading.Event) -> None:
        """Send until told to stop."""
        begin, date = time.monotonic(), time.time()
        sent = dict.fromkeys((m.name for m in self._modalities), 0)
        while not stopped.wait(EVERY_S / 5):
            now = time.monotonic()
            for m in self._modalities:
                rate = m.rate_hz or 0.5  # a static value is told every two seconds
                n = int((now - begin) * rate) - sent[m.name]
                if n < max(1, round(EVERY_S * rate)):
                    continue
                taken_s = begin + sent[m.name] / rate
                sent[m.name] += n
                self._make(m, n, taken_s, date + taken_s - begin)
            self._send_held(now)
        self._client.disconnect()
        self._client.loop_stop()
        self._log.close()

    def _make(self, m: Modality, n: int, taken_s: float, told_s: float) -> None:
        mean, std = self._scale[m.name]
        rows = n if m.rate_hz else 1
        values = (mean + std * self._rng.standard_normal((rows, len(mean)))).round(4).tolist()
        payload = json.dumps({"t": round(told_s, 6), "values": values} if m.rate_hz else {"values": values})
        row = {"sensor": m.name, "taken_s": taken_s, "n": rows}
        chance = self._chance
        if chance is not None and chance.random() < _RUBBISH:
            self._rubbish(m, chance)
        if chance is not None and chance.random() < _LATE:
            self._held.append((time.monotonic() + chance.uniform(0, _LATEST_S), m, row, payload))
            self._write({"kind": "late"})
            return
        self._send(m, row, payload)
        if chance is not None and chance.random() < _TWICE:
            self._client.publish(f"{PREFIX}/{m.name}", payload, qos=0)
            self._write({"kind": "twice"})

    def _send(self, m: Modality, row: dict[str, Any], payload: str) -> None:
        if not self._client.is_connected():
            self._write({"kind": "unsent", **row})
            return
        # what the broker has taken and nobody lived to write down, or to hear confirmed, may be used as well
        self._write({"kind": "tried", **row})
        number = self._client.publish(f"{PREFIX}/{m.name}", payload, qos=1).mid
        with self._lock:  # never held while the client is called, which has locks of its own
            confirmed_s = self._early.pop(number, None)
            if confirmed_s is None:
                self._waiting[number] = row
        if confirmed_s is not None:
            self._write({"kind": "sent", **row, "confirmed_s": confirmed_s})

    def _send_held(self, now: float) -> None:
        due = [held for held in self._held if held[0] <= now]
        self._held = [held for held in self._held if held[0] > now]
        for _, m, row, payload in due:
            self._send(m, row, payload)

    def _rubbish(self, m: Modality, chance: random.Random) -> None:
        """A message that nobody understands, on a topic of ours or a strange one."""
        texts = (
            chance.randbytes(chance.randrange(200)),
            b'{"t": 1e300, "values": [[1, 2, 3]]}',
            b'{"values": [[' + b"9" * chance.randrange(1000) + b"]]}",
            b"[" * chance.randrange(1, 3000),
            b'{"t": "yesterday", "values": {}}',
            b"\x00" * chance.randrange(1, 50_000),
        )
        topic = chance.choice((m.name, f"{m.name}/f32", "nobody", f"{m.name}/f32/x"))
        self._client.publish(f"{PREFIX}/{topic}", chance.choice(texts), qos=0)
        self._write({"kind": "rubbish"})

    def _confirmed(self, client: Any, data: Any, mid: int, reason: Any, properties: Any) -> None:
        now = time.monotonic()
        with self._lock:
            row = self._waiting.pop(mid, None)
            if row is None:  # or of a message nobody waits for: few, and let go at the end
                self._early[mid] = now
        if row is not None:
            self._write({"kind": "sent", **row, "confirmed_s": now})

    def _write(self, row: dict[str, Any]) -> None:
        with self._lock:
            if not self._log.closed:
                self._log.write(json.dumps(row) + "\n")


def scale_of(bundle: Bundle, m: Modality) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of training, `(C,)` each."""
    mean, std = (bundle.weights[f"embed.{m.name}.normalise.{leaf}"] for leaf in ("mean", "std"))
    return np.asarray(mean), np.asarray(std)


def main() -> None:
    """Send until a signal to end."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("port", type=int)
    parser.add_argument("log", type=Path)
    parser.add_argument("--sensors", default="", help="names joined by commas")
    parser.add_argument("--chaos", type=int, help="seed of what goes wrong")
    options = parser.parse_args()
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    sensors = tuple(name for name in options.sensors.split(",") if name)
    Publisher(options.port, options.log, sensors=sensors, chaos=options.chaos).run(stopped)


if __name__ == "__main__":
    main()
