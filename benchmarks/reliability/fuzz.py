"""Bytes-level fuzzing of every parser that meets bytes from outside: mutated inputs, the same for a seed.

A parser may refuse in the way it says; anything else that it raises, a warning, a result that is none, an
input that takes longer than two seconds of the processor or ends the process is counted as wrong, and saved
beside the result, so that it can become a test (tests/reliability/findings).
"""

from __future__ import annotations

import hashlib
import random
import tempfile
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.reliability.apart import OverdueError, Watched, apart
from benchmarks.reliability.mutate import Mutator
from benchmarks.reliability.parsers import PARSERS, SHARES
from benchmarks.reliability.record import Record
from benchmarks.reliability.tally import Tally
from benchmarks.tables.rows import table as markdown

FULL = sum(SHARES.values())
CHUNK_S = 20.0  # of work, about; a chunk is done again as a whole where a process ends
WRONG = ("untyped error", "overdue", "crash", "hang")
LIMIT_S = 2.0  # of processor time for one input, of a megabyte at most
KEPT = 200  # inputs saved of a campaign


def run(out: Path, *, count: int = FULL, seed: int = 0, only: str | None = None) -> dict[str, Any]:
    """Fuzz every parser in turn, each with its share of the count.

    Args:
        out: the result file; inputs that went wrong are saved in a folder beside it.
        count: inputs of all parsers together.
        seed: of every change.
        only: one parser alone.
    """
    kept = out.with_name(f"{out.stem}-findings")
    with Record(out, "fuzz", count=count, seed=seed) as record:
        told: dict[str, Any] = record.found.setdefault("parsers", {})
        for make, share in SHARES.items():
            name = make.__name__
            if only not in (None, name):
                continue
            asked = max(20, share * count // FULL)
            mine = told.setdefault(name, {"done": 0, "seconds": 0.0, **Tally().told()})
            tally = Tally(mine)
            size = 200
            while mine["done"] < asked:
                started = time.monotonic()
                size = min(size, asked - mine["done"])
                given = {"parser": name, "seed": seed, "first": mine["done"], "size": size, "kept": str(kept)}
                found, deaths = apart(__name__, given, limit_s=LIMIT_S)
                tally.add(Tally(found))
                for death in deaths:
                    tally.counts["hang" if death.how == "hang" else "crash"] += 1
                    tally.found(f"input {mine['done']} + {death.at}: {death.how}")
                took = time.monotonic() - started
                told[name] = mine = {
                    "done": mine["done"] + size,
                    "seconds": mine["seconds"] + took,
                    **tally.told(),
                }
                size = max(200, min(200_000, int(size * CHUNK_S / took)))
                record.found["wrong"] = {
                    what: sum(each["counts"].get(what, 0) for each in told.values()) for what in WRONG
                }
                record.advance(sum(each["done"] for each in told.values()))
    return record.found


def table(found: dict[str, Any]) -> str:
    """A row per parser."""
    heads = ("parser", "inputs", "read", "refused", "wrong", "longest [ms]", "memory grown [MB]")
    rows = []
    for name, told in found["parsers"].items():
        counts = told["counts"]
        wrong = sum(counts.get(what, 0) for what in WRONG)
        numbers = (told["done"], counts.get("read", 0), counts.get("refused", 0), wrong)
        sizes = (told["longest_ms"], told["grown_mb"])
        rows.append([name.replace("_", " "), *(f"{n:,}" for n in numbers), *(f"{x:.1f}" for x in sizes)])
    return markdown(heads, rows)


def chunk(given: dict[str, Any], watched: Watched) -> dict[str, Any]:
    """Inputs of one parser, one after the other."""
    tally = Tally()
    with tempfile.TemporaryDirectory(dir=_fastest()) as room:
        opened = PARSERS[given["parser"]](Path(room))
        rng = random.Random(f"{given['parser']} {given['seed']} {given['first']}")
        mutator = Mutator(opened.seeds, opened.tokens, rng)
        for seed in opened.seeds:  # what loads late is loaded now
            with suppress(*opened.raises):
                opened.attempt(seed)
        counts = {"refused": 0, "read": 0, "overdue": 0, "untyped error": 0}
        warnings.simplefilter("error")
        watched.begin()
        for k in range(given["size"]):
            content = mutator.next() if opened.inputs is None else opened.inputs(mutator, rng)
            if not watched.step(k):
                continue
            started = time.thread_time()
            try:
                opened.attempt(content)
                counts["read"] += 1
            except opened.raises:
                counts["refused"] += 1
            except OverdueError:
                counts["overdue"] += 1
                _keep(given, content, "overdue", tally)
            except Exception as error:
                counts["untyped error"] += 1
                _keep(given, content, f"{type(error).__name__}: {error}", tally)
            tally.longest_ms = max(tally.longest_ms, 1e3 * (time.thread_time() - started))
        watched.rest()
    tally.counts.update(counts)
    tally.grown_mb = watched.grown_mb
    return tally.told()


def _keep(given: dict[str, Any], content: bytes, what: str, tally: Tally) -> None:
    tally.found(f"{what:.150} <- {ascii(content)[:120]}")
    folder = Path(given["kept"]) / given["parser"]
    folder.mkdir(parents=True, exist_ok=True)
    if sum(1 for _ in folder.iterdir()) < KEPT:
        (folder / hashlib.sha256(content).hexdigest()[:16]).write_bytes(content)


def _fastest() -> str | None:
    """A folder in memory, where the system has one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
