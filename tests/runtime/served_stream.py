"""A program: a runtime under a service manager, for tests; its first argument says what goes wrong."""

from __future__ import annotations

import sys
import time

import numpy as np

from sentryfuse.bundle import load_bundle
from sentryfuse.engine.engines import OnnxRuntime
from sentryfuse.runtime import Runtime
from sentryfuse.runtime.service import Notifier, Service
from sentryfuse.stream import Packet
from sentryfuse.stream.packet import LiveSource
from tests.tiny import GOLDEN

BUNDLE = load_bundle(GOLDEN / "tiny-v3.bundle")
HOP_S, MAX_AGE_S = 0.1, 0.5
WINDOW_S = 4.0


class Room(LiveSource):
    """Sensors on our own clock that have been on for a window; or silent, or a source that breaks."""

    def __init__(self, how: str) -> None:
        self.start_s: float | None = time.monotonic() - WINDOW_S
        self._how, self._begin = how, self.start_s
        self._sent = {m.name: 0 for m in BUNDLE.layout.modalities}
        self._rng = np.random.default_rng(3)

    @property
    def ended(self) -> bool:
        return False

    def now_s(self) -> float:
        return time.monotonic()

    def read(self, timeout_s: float) -> list[Packet]:
        time.sleep(min(timeout_s, 0.02))
        if self._how == "broken source":
            raise OSError("the cable is out")
        return [] if self._how == "silent" else self._made()

    def _made(self) -> list[Packet]:
        made, at_s = [], time.monotonic() - self._begin
        for m in BUNDLE.layout.modalities:
            due, sent = int(at_s * m.rate_hz) if m.rate_hz else 1, self._sent[m.name]
            if due > sent:
                mean, std = (BUNDLE.weights[f"embed.{m.name}.normalise.{leaf}"] for leaf in ("mean", "std"))
                values = mean + std * self._rng.standard_normal((due - sent, len(mean)))
                made.append(Packet(m.name, values.astype(np.float32), None, time.monotonic()))
                self._sent[m.name] = due
        return made

    def counters(self) -> dict[str, dict[str, int]]:
        return {}

    def close(self) -> None:
        pass


class Troubled(OnnxRuntime):
    """An engine that hangs, fails, or is slow from the fifth answer on."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self._how, self._answers = how, 0

    def build(self, model, **options):
        answer = super().build(model, **options)

        def troubled(*words):
            self._answers += 1
            if self._answers > 5:
                if self._how == "faulty":
                    raise RuntimeError("broken")
                time.sleep({"hangs": 60.0, "late": 2 * MAX_AGE_S}.get(self._how, 0.0))
            return answer(*words)

        return troubled


def main() -> None:
    how, seconds = sys.argv[1], float(sys.argv[2])
    source, notifier = Room(how), Notifier()
    with Runtime(
        BUNDLE, source, hop_s=HOP_S, wait_s=0.0, max_age_ms=1e3 * MAX_AGE_S, engine=Troubled(how)
    ) as runtime:
        until = time.monotonic() + seconds
        with Service(runtime, notifier) as service:
            while time.monotonic() < until:
                service.see(runtime.step())
    notifier.close()


if __name__ == "__main__":
    main()
