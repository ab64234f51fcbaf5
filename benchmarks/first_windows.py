"""A person nobody has seen puts the sensors on: the first windows of a model standardised by person.

    python benchmarks/first_windows.py RUN --data FILE [--fold I/K]      a minute or two a run

Windows of each test person are answered one by one in the order of the recording, the person known by the
windows up to then, as a stream does it; by the readout alone, the transformer alone and both, with and
without what training people say of a person (`subject_prior`). Shares of right answers among the first 20,
the first 100 and all windows of a person. Appends to docs/results/first_windows.json;
`python benchmarks/readme.py` makes the table.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sentryfuse as sf
from sentryfuse.bundle import Bundle
from sentryfuse.cli.options import open_windows
from sentryfuse.engine import Session
from sentryfuse.files import read_json, write_json
from sentryfuse.machine import machine
from sentryfuse.runtime.person import Person, features_of_person
from sentryfuse.types import Budget

ROOT = Path(__file__).resolve().parent.parent
FIRST = (20, 100, None)  # windows of a person; `None` = all


def main() -> None:
    """Answer, count, add to the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of `sentryfuse train`")
    parser.add_argument("--data", type=Path, required=True, help="an npz file")
    parser.add_argument("--fold", help="of the people, as the model was trained")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "first_windows.json")
    options = parser.parse_args()
    windows = replace(open_windows(str(options.data), options.fold), by_subject=None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.bundle"
        sf.export_bundle(sf.from_pretrained(options.run), path)
        bundle = sf.load_bundle(path)
    if bundle.normalise != "subject":
        raise SystemExit(f"{options.run} is not standardised by person, its stream knows all from the start")
    right = answered(bundle, windows)
    own = {"dataset": windows.name, "fold": options.fold, "people": len(right["readout"])}
    rows = [own | {"who": who, **shares(hits), **machine()} for who, hits in right.items()]
    for row in rows:
        print(row["who"], {key: round(100 * row[key], 1) for key in ("first_20", "first_100", "all")})
    found = read_json(options.out) if options.out.is_file() else {"rows": []}
    rest = [row for row in found["rows"] if (row["dataset"], row["fold"]) != (own["dataset"], own["fold"])]
    write_json(options.out, {"rows": rest + rows})


def answered(bundle: Bundle, windows: sf.Windows) -> dict[str, dict[int, NDArray[np.bool_]]]:
    """Who answers -> person -> which windows were answered rightly, in their order."""
    both = Session(bundle, bundle.plan(None, Budget()), batch=1)
    alone = Session(bundle, bundle.plan(None, Budget(ratio=1.0)), batch=1)
    test = windows.indices("test")
    found: dict[str, dict[int, NDArray[np.bool_]]] = {}
    for person in np.unique(windows.subject[test]):
        own = test[windows.subject[test] == person]
        known = {who: features_of_person(bundle) for who in ("both", "both, by itself", "readout")}
        supposing = Person(bundle.names, bundle.subject_floor, bundle.subject_prior)
        by_itself = Person(bundle.names, bundle.subject_floor)
        said: dict[str, list[int]] = {}
        for i in own:
            raw = windows.batch(np.array([i]))
            for name, x in (("", supposing.standardise(raw)), (", by itself", by_itself.standardise(raw))):
                who = f"both{name}"
                said.setdefault(who, []).append(_class(both.run(x, None, known[who], raw)))
                said.setdefault(f"transformer{name}", []).append(_class(both.transformer(x)))
            said.setdefault("readout", []).append(_class(alone.run(raw, None, known["readout"], raw)))
        for who, classes in said.items():
            found.setdefault(who, {})[int(person)] = np.array(classes) == windows.y[own]
    return found


def _class(answer: NDArray[np.float32]) -> int:
    return int(answer[0].argmax())


def shares(hits: Mapping[int, NDArray[np.bool_]]) -> dict[str, Any]:
    """Share of right answers, people counting by their windows, 0..1."""
    return {
        "all" if first is None else f"first_{first}": float(
            np.concatenate([h[:first] for h in hits.values()]).mean()
        )
        for first in FIRST
    }


if __name__ == "__main__":
    main()
