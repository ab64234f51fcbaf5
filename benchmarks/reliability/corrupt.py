"""Corrupt bundles: each through the reader that a device uses, and none may end it or pass as another.

Two bundles of the golden tests and one with every kind of step are damaged as disks, copies and people do
it: bits turned, ends cut off, pieces of other bundles, of zeros and of noise put in, headers that lie about
sizes, manifests changed and signed again, tensors and wiring that no model has. The last ones fit their
digests, so some of them are sound models: those must plan and answer, or be refused in one sentence.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.reliability.apart import OverdueError, Watched, apart
from benchmarks.reliability.record import ROOT, Record
from benchmarks.reliability.tally import Tally, quantile_ms
from benchmarks.tables.rows import table as markdown

FULL = 100_000
CHUNK = 1000
GOLDEN = ROOT / "tests" / "golden"
SHARES = {"flipped": 320, "cut": 120, "zeros": 100, "spliced": 160, "copies": 60}  # of a chunk, bytes only
SIGNED = {"headers": 80, "manifests": 120, "tensors": 30, "wiring": 30}
RAW = 10  # headers of megabytes come with every tenth chunk: each takes as long as a hundred others
WRONG = ("accepted as another", "untyped error", "found by no check", "no answer", "overdue", "crash", "hang")


def run(out: Path, *, count: int = FULL, seed: int = 0) -> dict[str, Any]:
    """Damage, load and count, chunk by chunk."""
    with Record(out, "corrupt", count=count, seed=seed) as record:
        tally = Tally(record.found.get("tally"))
        while record.done < count:
            number, size = record.done // CHUNK, min(CHUNK, count - record.done)
            told, deaths = apart(__name__, {"seed": seed, "number": number, "size": size})
            tally.add(Tally(told))
            for death in deaths:
                tally.counts["hang" if death.how == "hang" else "crash"] += 1
                tally.found(f"chunk {number}, input {death.at}: {death.how}")
            record.found["tally"] = tally.told()
            record.found["wrong"] = {what: tally.counts[what] for what in WRONG}
            record.advance(record.done + size)
    return record.found


def table(found: dict[str, Any]) -> str:
    """What became of the files, and what refusing them took."""
    tally = found["tally"]
    n = sum(tally["bins"].values())
    counts: dict[str, int] = tally["counts"]
    made = {name: k for name, k in counts.items() if name.endswith((", damaged", ", signed again"))}
    came = {name: k for name, k in counts.items() if name not in made}
    rows = [[f"made: {name}", f"{count:,}"] for name, count in made.items()]
    rows += [[name, f"{came.get(name, 0):,}"] for name in (*sorted(came.keys() - {*WRONG}), *WRONG)]
    times = " / ".join(f"{quantile_ms(tally['bins'], share):.2f}" for share in (0.5, 0.99))
    rows.append(["time of one, p50 / p99 / max [ms]", f"{times} / {tally['longest_ms']:.0f}"])
    rows.append(["memory above a good bundle's, most [MB]", f"{tally['grown_mb']:.0f}"])
    return markdown([f"{n:,} bundles", ""], rows)


def chunk(given: dict[str, Any], watched: Watched) -> dict[str, Any]:
    """The mutants of one chunk, loaded one after the other."""
    from sentryfuse.bundle import load_bundle
    from sentryfuse.errors import BundleError

    tally = Tally()
    goods = sources()
    with tempfile.TemporaryDirectory() as room:
        path = Path(room) / "x.bundle"
        wanted = []
        for good in goods:
            path.write_bytes(good)
            bundle = load_bundle(path)
            _answers(bundle)  # what loads late is loaded now
            wanted.append(bundle)
        watched.begin()
        made = mutants(goods, given["seed"], given["number"])
        for k, (source, label, content, signed) in enumerate(islice(made, given["size"])):
            path.write_bytes(content)
            if not watched.step(k):
                continue
            started = time.thread_time()
            try:
                bundle = load_bundle(path)
            except BundleError as error:
                told = str(error)
                came = "found by no check" if "cannot be understood" in told else "refused"
                if came != "refused":
                    tally.found(f"{label}: {told[-200:]}")
            except OverdueError:
                came = "overdue"
            except Exception as error:
                came = "untyped error"
                tally.found(f"{label}: {error!r:.200}")
            else:
                came = "accepted as it was" if _same(bundle, wanted[source]) else "accepted as another"
                if came == "accepted as another" and signed:
                    came = _tried(bundle, label, tally)
                elif came == "accepted as another":
                    tally.found(f"{label}: loads as another")
            watched.rest()
            tally.took(1e3 * (time.thread_time() - started))
            tally.counts[came] += 1
            tally.counts[f"{label.split()[0].strip(':')}, {'signed again' if signed else 'damaged'}"] += 1
    tally.grown_mb = watched.grown_mb
    return tally.told()


def sources() -> list[bytes]:
    """Whole bundles to damage."""
    from benchmarks.reliability.made import everything
    from sentryfuse.bundle import save_bundle

    found = [path.read_bytes() for path in sorted(GOLDEN.glob("*.bundle"))]
    with tempfile.TemporaryDirectory() as room:
        path = Path(room) / "made.bundle"
        manifest, tensors = everything()
        save_bundle(path, manifest=manifest, tensors=tensors)
        return [*found, path.read_bytes()]


def mutants(goods: list[bytes], seed: int, number: int) -> Iterator[tuple[int, str, bytes, bool]]:
    """The mutants of one chunk: which bundle, what was done, the bytes, and whether the digests fit."""
    from benchmarks.reliability.mutants import KINDS

    rng = random.Random(f"{seed} {number}")
    source = number % len(goods)
    good, others = goods[source], [*goods[:source], *goods[source + 1 :]]
    for kind in rng.sample([*SHARES, *SIGNED], k=len(SHARES) + len(SIGNED)):
        if kind in SIGNED:
            share = SIGNED[kind]
            made = KINDS[kind](good, rng, share)
            whole = number % RAW == 0 and kind in ("headers", "manifests")
            for mutant in made if whole else islice(made, share):
                yield source, mutant.label, mutant.content, mutant.signed
        elif kind == "copies":
            for mutant in KINDS[kind](good, rng, SHARES[kind]):
                yield source, mutant.label, mutant.content, False
        else:
            for _ in range(SHARES[kind]):
                yield source, f"copy: {kind}", damaged(good, others, kind, rng), False


def damaged(good: bytes, others: list[bytes], kind: str, rng: random.Random) -> bytes:
    """A copy with one sort of damage; never what it was."""
    header = 8 + int.from_bytes(good[:8], "little")
    first, last = rng.choice([(0, 64), (0, header), (header, len(good)), (0, len(good))])
    at = rng.randrange(first, last)
    content = bytearray(good)
    if kind == "flipped":
        for _ in range(rng.choice([1, 1, 2, rng.randint(3, 64)])):
            content[rng.randrange(first, last)] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del content[at:]
    elif kind == "zeros":
        size = min(rng.choice([1, 8, 64, 512, 4096, 65536]), len(content) - at)
        content[at : at + size] = bytes(size)
    else:
        other = rng.choice([*others, good])
        start, size = rng.randrange(len(other)), rng.choice([8, 64, 4096, len(other)])
        piece = other[start : start + size]
        if rng.random() < 0.5:
            content[at : at + len(piece)] = piece  # in place of as much
        else:
            content[at:at] = piece
    if content == good:
        content[at] ^= 0x10
    return bytes(content)


def _same(bundle: Any, wanted: Any) -> bool:
    """Whether a bundle holds exactly what another does: manifest and every number."""
    return bundle.digest == wanted.digest and all(
        bundle.weights[name].tobytes() == values.tobytes() for name, values in wanted.weights.items()
    )


def _tried(bundle: Any, label: str, tally: Tally) -> str:
    """A bundle signed again that passes: it answers, or is refused in one sentence."""
    from sentryfuse.errors import InputError

    try:
        _answers(bundle)
    except InputError:
        return "signed again and sound, cannot be used"
    except OverdueError:
        return "overdue"
    except Exception as error:
        tally.found(f"{label}: {error!r:.200}")
        return "no answer"
    return "signed again and sound, answers"


def _answers(bundle: Any) -> None:
    """Plan for all sensors, build, and answer one window."""
    import numpy as np

    from sentryfuse.engine import Session
    from sentryfuse.types import Budget

    names = bundle.names[:8]
    rng = np.random.default_rng(0)
    windows = {
        m.name: rng.normal(size=(1, m.length, m.n_channels)).astype(np.float32)
        for m in bundle.layout.modalities
        if m.name in names
    }
    with np.errstate(
        all="ignore"
    ):  # numbers of another model may be no probabilities, which the runtime sees
        session = Session(bundle, bundle.plan(names, Budget(ratio=0.3)), batch=1)
        assert session.run(windows).shape == (1, len(bundle.classes))
