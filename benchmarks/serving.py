"""What serving costs beside the runtime: processor time with twenty who follow, and with nobody served.

    python benchmarks/serving.py            about six minutes; run it when nothing else runs

The real command on a replay of five sensors at 50 Hz, one window a second and fifty. Each is run three times
in turn without `--serve`, served with nobody there, and with twenty clients that follow the page's events and
one that asks for metrics every second; processor time is that of the command alone, from /proc, between two
moments when it answers. The clients are another process.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from sentryfuse.bundle import Bundle, load_bundle
from sentryfuse.data import make_windows, save_windows
from sentryfuse.files import write_json
from sentryfuse.machine import machine

ROOT = Path(__file__).resolve().parent.parent
SENSORS, RATE_HZ, WINDOW_S = 5, 50.0, 2.0
HOPS_S = {"1 window a second": 1.0, "50 windows a second": 0.02}
WAYS = {"not served": None, "served": 0, "20 clients": 20}
TURNS, BEGIN_S = 3, 4.0
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure and write one result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=11.0, help="of each measurement")
    parser.add_argument("--hop", choices=HOPS_S, action="append", help="this one; may be repeated")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "serving.json")
    options = parser.parse_args()
    result = json.loads(options.out.read_text()) if options.out.is_file() else {}
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        code = f"from benchmarks.serving import make_bundle; make_bundle({str(room / 'model.bundle')!r})"
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
        bundle = load_bundle(room / "model.bundle")
        write_recording(room / "recording.npz", bundle, 2 * options.seconds + 30)
        for hop in options.hop or HOPS_S:
            shares: dict[str, list[float]] = {way: [] for way in WAYS}
            delays: dict[str, list[float]] = {way: [] for way in WAYS}
            events = 0
            for _ in range(TURNS):
                for way, clients in WAYS.items():
                    share, delay_ms, heard = measure(room, HOPS_S[hop], clients, options.seconds)
                    shares[way].append(share)
                    delays[way] += delay_ms
                    events += heard
            base = float(np.median(shares["not served"]))
            result[hop] = {
                "core_share": shares,
                "added": {way: float(np.median(found)) - base for way, found in shares.items()},
                "delay_ms": {
                    way: {f"p{q}": float(np.percentile(found, q)) for q in (50, 95, 99)}
                    for way, found in delays.items()
                },
                "windows": {way: len(found) for way, found in delays.items()},
                "events_heard": events,
                "seconds": options.seconds,
                "turns": TURNS,
                "sensors": {"number": SENSORS, "rate_hz": RATE_HZ, "channels": 3},
                "weights": bundle.plan().dense.params,
                **machine(),
            }
            print(hop, json.dumps(result[hop]["added"]), flush=True)
            write_json(options.out, result)


def measure(room: Path, hop_s: float, clients: int | None, seconds: float) -> tuple[float, list[float], int]:
    """Run the command once.

    Returns:
        Share of a core that it took, the delays of its windows [ms], and the events that its viewers heard.
    """
    lines = room / "lines"
    with running(room, hop_s, served=clients is not None) as (process, url):
        viewers = None
        if clients:
            code = f"from benchmarks.serving import follow_all; follow_all({url!r}, {clients})"
            viewers = subprocess.Popen(
                [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
            )
        time.sleep(BEGIN_S)
        began, used = time.monotonic(), used_s(process.pid)
        time.sleep(seconds)
        share = (used_s(process.pid) - used) / (time.monotonic() - began)
        process.terminate()
        process.wait(60)
        heard = 0 if viewers is None else int(viewers.communicate(timeout=60)[0])
    rows = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    return share, [row["delay_ms"] for row in rows if row["kind"] == "window"], heard


@contextmanager
def running(room: Path, hop_s: float, *, served: bool) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, and where it is served."""
    asked = [
        "run",
        str(room / "model.bundle"),
        "--source",
        f"replay:{room / 'recording.npz'}?speed=1&split=all",
    ]
    lines = room / "lines"
    lines.unlink(missing_ok=True)
    asked += ["--hop-s", f"{hop_s:g}", "--json", str(lines), "--quiet"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        place = f"127.0.0.1:{free.getsockname()[1]}"
    asked += ["--serve", place] if served else []
    process = subprocess.Popen([sys.executable, "-m", "sentryfuse", *asked])
    try:
        while not (lines.is_file() and lines.stat().st_size):
            if process.poll() is not None:
                raise RuntimeError("the run has ended before it answered")
            time.sleep(0.1)
        yield process, f"http://{place}/"
    finally:
        process.kill()
        process.wait()


def used_s(pid: int) -> float:
    """Processor time of a process with all of its threads so far [s]."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def follow_all(url: str, n: int) -> None:
    """Be so many viewers, and one who asks for metrics, until the run ends; print what was heard."""
    heard = [0] * n

    def follow(k: int) -> None:
        with urllib.request.urlopen(f"{url}v1/live", timeout=60) as stream:
            for line in stream:
                heard[k] += line.startswith(b"data: ")

    viewers = [threading.Thread(target=follow, args=(k,)) for k in range(n)]
    for k, viewer in enumerate(viewers):
        viewer.start()
        time.sleep(0.5 / n if k else 0.0)  # people do not come all at once
    while any(viewer.is_alive() for viewer in viewers):
        try:
            with urllib.request.urlopen(f"{url}metrics", timeout=60) as answer:
                answer.read()
        except OSError:
            break
        time.sleep(1.0)
    for viewer in viewers:
        viewer.join()
    print(sum(heard))


def write_recording(path: Path, bundle: Bundle, seconds: float) -> None:
    """Noise for so long."""
    rng = np.random.default_rng(0)
    n = int(seconds / WINDOW_S) + 1
    raw = {
        m.name: rng.standard_normal((n, m.length, m.n_channels), dtype=np.float32)
        for m in bundle.layout.modalities
    }
    save_windows(path, make_windows("serving", bundle.layout.modalities, raw=raw))


def make_bundle(path: str) -> None:
    """Export a random model of five sensors at 50 Hz."""
    import torch

    from sentryfuse import Modality, create_model, export_bundle

    torch.manual_seed(0)
    length = int(RATE_HZ * WINDOW_S)
    modalities = [Modality(f"sensor_{i}", RATE_HZ, length, tuple("xyz")) for i in range(SENSORS)]
    model = create_model("maestro", modalities=modalities, classes=list("abcde"), preset="small")
    export_bundle(model, path)


if __name__ == "__main__":
    main()
