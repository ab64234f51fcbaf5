"""A thousand models swapped over HTTP while a stream is answered and twenty clients follow it.

The real command on a replay, fifty windows a second. A client sends one bundle after the other and waits for
each answer; every tenth time it sends a damaged one as well. Afterwards every line of the run is compared
with what the bundle it names answers to that window alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.bundle import Bundle, load_bundle, save_bundle
from sentryfuse.bundle.container import open_container
from sentryfuse.data import Windows, make_windows, save_windows
from sentryfuse.engine import Session
from sentryfuse.files import write_json
from sentryfuse.machine import machine
from sentryfuse.types import Budget

FULL = 1000
ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "tests" / "golden" / "tiny-v3.bundle"
RATE_HZ = 50.0  # windows a second
CLIENTS = 20
MODELS = 50  # that differ, sent in turn
DAMAGED_EVERY = 10
SPARE_WINDOWS, SPARE_S = 40, 200.0  # of the recording for each swap, and for pauses of the machine
CLOSE, APART = 1e-5, 1e-2  # probabilities that are the same, and of two models that are not
TOKEN = "a-token-of-the-campaign-0123"
_REQUEST_S = 120.0
Array = NDArray[np.float32]


def run(out: Path, *, count: int = FULL, seed: int = 0) -> dict[str, Any]:
    """Swap so many models, and write what came of it.

    Args:
        out: the result file.
        count: takeovers asked for.
        seed: of the stream, the models and the damage.

    Returns:
        What is written; `wrong` holds what must be 0.
    """
    began, code_of = time.monotonic(), commit()
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        windows = recording(load_bundle(BUNDLE), SPARE_WINDOWS * count + round(SPARE_S * RATE_HZ), rng)
        save_windows(room / "recording.npz", windows)
        models = [model(room / f"{k}.bundle", rng) for k in range(MODELS)]
        with served(room) as (process, url):
            told, refused, times, heard = swap_all(url, models, count, rng)
            process.terminate()
            code = process.wait(_REQUEST_S)
        rows = [json.loads(line) for line in (room / "lines").read_text(encoding="utf-8").splitlines()]
        summary = rows.pop() if rows and rows[-1]["kind"] == "summary" else None
        bundles = [load_bundle(path) for path in (BUNDLE, *models)]
    taken = [answer for answer in told if answer.get("outcome") == "took_over"]
    judged = judge(rows, taken, windows, bundles)
    found = {
        "part": "swaps",
        "seed": seed,
        "done": len(taken),
        "asked": count,
        "seconds": time.monotonic() - began,
        "commit": code_of,
        **machine(),
        "clients": CLIENTS,
        "windows_per_s": RATE_HZ,
        "windows": len(rows),
        "events_heard": sum(heard),
        "statuses": {} if summary is None else summary["statuses"],
        "answers": dict(Counter(answer.get("outcome", "none") for answer in told)),
        "damaged": len(refused),
        "told_apart": judged["told_apart"],
        "dropped": judged["dropped"],
        "post_ms": {f"p{q}": float(np.percentile(times, q)) for q in (50, 99, 100)},
        "delay_ms": {f"p{q}": float(np.percentile([r["delay_ms"] for r in rows], q)) for q in (50, 99, 100)},
        "wrong": {
            "exit code not 0": int(code != 0),
            "no summary": int(summary is None),
            "no takeover": count - len(taken),
            "damaged and not refused": sum(code != 400 for code in refused),
            "clients that heard nothing": sum(n == 0 for n in heard),
            **judged["wrong"],
        },
    }
    write_json(out, found)
    return found


def judge(
    rows: Sequence[dict[str, Any]],
    taken: Sequence[dict[str, Any]],
    windows: Windows,
    bundles: Sequence[Bundle],
) -> dict[str, Any]:
    """What may not be, as `wrong`: windows lost, doubled, or answered by another model than they name.

    Args:
        rows: lines of windows.
        taken: answers to the client, in order; the first window of each.
        windows: that were played.
        bundles: the first one, and all that were sent.

    Returns:
        Beside it `told_apart`, answers that are not those of the model before, whichever gave them, and
        `dropped`, windows that nobody looked at since the machine was behind.
    """
    ids = [row["window_id"] for row in rows]
    by_digest = {bundle.digest[:12]: bundle for bundle in bundles}
    sessions: dict[tuple[str, tuple[str, ...]], Session] = {}
    now, before = bundles[0].digest[:12], bundles[1].digest[:12]
    expected = {answer["window_id"]: answer["bundle"] for answer in taken}
    found: Counter[str] = Counter()
    for row in rows:
        if row["window_id"] in expected:
            now, before = expected[row["window_id"]], now
        found["windows that name another model than took over"] += row["bundle"] != now
        if row["reason"].startswith("dropped"):  # the machine paused; told, counted, and nobody's answer
            found["dropped"] += 1
            continue
        found["windows without an answer"] += row["latency_ms"] is None
        if row["latency_ms"] is None:
            continue
        off, apart = (
            float(np.abs(alone - np.float32(row["probabilities"])).max())
            for alone in (
                answered(sessions, by_digest[digest], tuple(row["present"]), windows, row["window_id"])
                for digest in (row["bundle"], before)
            )
        )
        found["answers of another model than they name"] += off > CLOSE
        found["told apart"] += apart > APART
    return {
        "told_apart": found.pop("told apart"),
        "dropped": found.pop("dropped", 0),
        "wrong": {
            "windows lost": len(set(range(max(ids, default=-1) + 1)) - set(ids)),
            "windows doubled": len(ids) - len(set(ids)),
            "windows out of order": sum(b <= a for a, b in pairwise(ids)),
            **found,
        },
    }


def answered(
    sessions: dict[tuple[str, tuple[str, ...]], Session],
    bundle: Bundle,
    present: tuple[str, ...],
    windows: Windows,
    index: int,
) -> Array:
    """What one model answers to one window alone."""
    key = (bundle.digest, present)
    if key not in sessions:
        sessions[key] = Session(bundle, bundle.plan(present, Budget(ratio=0.0)), batch=1)
    answer: Array = sessions[key].run({name: x[index : index + 1] for name, x in windows.raw.items()})[0]
    return answer


def swap_all(
    url: str, models: Sequence[Path], count: int, rng: np.random.Generator
) -> tuple[list[dict[str, Any]], list[int], list[float], list[int]]:
    """Send one model after the other, each when the one before is answered.

    Returns:
        Answers, codes of damaged ones, times of the requests [ms], events that each follower heard.
    """
    bodies = [path.read_bytes() for path in models]
    told, refused, times = [], [], []
    heard = [0] * CLIENTS
    followers = [threading.Thread(target=follow, args=(url, heard, k), daemon=True) for k in range(CLIENTS)]
    for follower in followers:
        follower.start()
    for k in range(count):
        began = time.perf_counter()
        told.append(send(url, bodies[k % len(bodies)])[1])
        times.append(1e3 * (time.perf_counter() - began))
        if k % DAMAGED_EVERY == 0:
            refused.append(send(url, damage(bodies[(k + 1) % len(bodies)], rng))[0])
    return told, refused, times, heard


def send(url: str, body: bytes) -> tuple[int, dict[str, Any]]:
    """One bundle, and what is answered."""
    request = urllib.request.Request(f"{url}v1/bundle", body, {"Authorization": f"Bearer {TOKEN}"})
    try:
        with urllib.request.urlopen(request, timeout=_REQUEST_S) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def follow(url: str, heard: list[int], k: int) -> None:
    """Follow the page's events to their end."""
    with urllib.request.urlopen(f"{url}v1/live", timeout=_REQUEST_S) as stream:
        for line in stream:
            heard[k] += line.startswith(b"data: ")


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """A bundle with a bit turned, an end cut off, or bytes after its end."""
    kind, at = rng.integers(3), int(rng.integers(len(content)))
    if kind == 0:
        return content[:at] + bytes([content[at] ^ (1 << int(rng.integers(8)))]) + content[at + 1 :]
    return content[:at] if kind == 1 else content + rng.bytes(1 + at % 64)


def model(path: Path, rng: np.random.Generator) -> Path:
    """The same model with another bias for each class."""
    with open_container(BUNDLE) as container:
        full, tensors = json.loads(container.manifest), container.tensors()
    manifest = {name: value for name, value in full.items() if name not in ("format", "digests")}
    bias = tensors["weights.head.classify.bias"]
    moved = (bias + rng.normal(0, 2, bias.shape)).astype(np.float32)
    save_bundle(path, manifest=manifest, tensors={**tensors, "weights.head.classify.bias": moved})
    return path


def recording(bundle: Bundle, n: int, rng: np.random.Generator) -> Windows:
    """Windows as they were in training, noise of their mean and deviation."""
    raw = {}
    for m in bundle.layout.modalities:
        mean, std = (bundle.weights[f"embed.{m.name}.normalise.{leaf}"] for leaf in ("mean", "std"))
        raw[m.name] = (mean + std * rng.standard_normal((n, m.length, m.n_channels))).astype(np.float32)
    return make_windows("swaps", bundle.layout.modalities, raw=raw)


@contextmanager
def served(room: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command on the recording, and where it is served; its lines go to `lines`."""
    bundle = load_bundle(BUNDLE)
    window_s = max(m.length / m.rate_hz for m in bundle.layout.modalities if m.rate_hz)
    source = f"replay:{room / 'recording.npz'}?speed={window_s * RATE_HZ:g}&split=all"
    asked = ["run", str(BUNDLE), "--source", source, "--serve", "127.0.0.1:0", "--json", str(room / "lines")]
    process = subprocess.Popen(
        [sys.executable, "-m", "sentryfuse", *asked, "--log", "error"],
        env={**os.environ, "SENTRYFUSE_SERVE_TOKEN": TOKEN},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    rest = threading.Thread(target=process.stderr.read)
    try:
        for line in process.stderr:
            if line.startswith("serve: "):
                break
        else:
            raise RuntimeError("the run has ended before it was served")
        rest.start()
        yield process, line.split()[1]
    finally:
        process.kill()
        process.wait()
        if rest.ident is not None:
            rest.join()
        process.stderr.close()


def commit() -> str | None:
    """Which code runs, with a `+` where files differ from it; `None` outside a repository."""
    try:
        asked = ["git", "-C", str(ROOT), "describe", "--always", "--exclude=*", "--dirty=+"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


if __name__ == "__main__":
    print(json.dumps(run(ROOT / "docs" / "results" / "reliability" / "swaps.json"), indent=1))
