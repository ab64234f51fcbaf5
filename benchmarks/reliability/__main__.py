"""Run parts of the reliability campaign, or make the tables of docs/reliability.md.

python -m benchmarks.reliability corrupt               as many as the figures are of
python -m benchmarks.reliability corrupt --count 500   fewer, for a look: give --out as well
python -m benchmarks.reliability all
python -m benchmarks.reliability page                  the tables, from the result files
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from importlib import import_module, util
from pathlib import Path

from benchmarks.reliability.record import RESULTS, ROOT

PARTS = ("corrupt", "fuzz", "kills", "switches", "soak", "faults", "outage", "swaps")


def main() -> int:
    """Exit code 1 when something went wrong that never may."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reliability", description=__doc__.splitlines()[0]
    )
    parser.add_argument("part", choices=[*PARTS, "all", "page"])
    parser.add_argument("--count", type=int, help="instead of the full count")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result files")
    options = parser.parse_args()
    if options.part == "page":
        asked = [sys.executable, str(ROOT / "benchmarks" / "readme.py"), "--page", "docs/reliability.md"]
        return subprocess.run(asked, check=False).returncode
    wrong: dict[str, int] = {}
    for name in PARTS if options.part == "all" else [options.part]:
        if util.find_spec(f"benchmarks.reliability.{name}") is None:
            print(f"{name}: there is no such part yet")
            continue
        module = import_module(f"benchmarks.reliability.{name}")
        count = options.count or module.FULL
        found = module.run(options.out / f"{name}.json", count=count, seed=options.seed)
        wrong |= {f"{name}: {what}": n for what, n in found["wrong"].items() if n}
        print(
            f"{name}: {found['done']} done in {found['seconds']:.0f} s, wrong: {found['wrong']}", flush=True
        )
    for what, n in wrong.items():
        print(f"WRONG {what}: {n}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
