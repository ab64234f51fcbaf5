"""Forests as small as the recordings of tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

# A training through the command line grows 550 trees for its readout, boosts five ensembles and compares with
# a forest of 200, however few the windows are: four fifths of its time on 200 windows, and not what tests of
# commands are about.
FEW = {
    ("sentryfuse.readout.tree_experts", "_TREES"): 4,
    ("sentryfuse.readout.boosting", "_ROUNDS"): 0,  # too few, so that nothing is boosted
    ("sentryfuse.rivals.models", "_TREES"): 20,
    ("sentryfuse.rivals.timing", "REPEATS"): 3,
}

# A command of the line that is given, in a process of its own, with few trees.
PROGRAM = (
    "import sys\nfrom sentryfuse.cli import main\nfrom tests.few_trees import few_trees\n"
    "with few_trees():\n    sys.exit(main(sys.argv[1:]))"
)


@contextmanager
def few_trees() -> Iterator[None]:
    """Readouts and rivals are fitted with few trees meanwhile."""
    modules = {name: import_module(name) for name, _ in FEW}
    before = {(name, what): getattr(modules[name], what) for name, what in FEW}
    for (name, what), n in FEW.items():
        setattr(modules[name], what, n)
    try:
        yield
    finally:
        for (name, what), n in before.items():
            setattr(modules[name], what, n)
