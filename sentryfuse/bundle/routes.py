"""Every set of sensors finds its way to an answer: no step reads what no step before it has written.

A step runs when the sensors it needs are on and those it lacks are off. So a value exists when one of its
writers runs, and whether that holds wherever a reader runs is asked of all sets of sensors at once, not one
after another: 30 sensors have a billion of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sentryfuse.bundle.container import Inconsistent
from sentryfuse.graph import LOGITS
from sentryfuse.graph.kinds import takes_what_is_there
from sentryfuse.planning.layout import WINDOW, Layout, Step

MAX_WORK = 300_000  # conditions looked at; models of 60 sensors take some thousands
MAX_WRITERS = 16  # of one value
When = Mapping[str, bool]  # sensor -> on or off; a sensor that is not named may be either


def check_routes(layout: Layout) -> None:
    """Follow the steps of a layout.

    Args:
        layout: its fields are of the right types.

    Raises:
        Inconsistent: a step that could not run, two writers of one value, or sensors without an answer.
    """
    names = layout.names
    search = _Search(names)
    writers: dict[str, list[When]] = {f"{WINDOW}{name}": [{name: True}] for name in names}
    steps = {step.name for step in layout.steps}
    for step in layout.steps:
        when = _when(step, names)
        _check_reads(step)
        if steps & {*_outer(step.name), *_outer(step.writes)} - {step.writes}:
            raise Inconsistent(f"has a step {step.name} inside another")
        # an answer weighs all of its parts
        asked = step.reads + (step.parts if step.writes == LOGITS else ())
        for name in asked:
            if name not in writers:
                raise Inconsistent(f"has a step {step.name} that asks for {name} before any step writes it")
            if name.startswith(WINDOW) and name.removeprefix(WINDOW) not in step.needs:
                raise Inconsistent(f"has a step {step.name} that reads {name} also when it is absent")
        # of many values some must be there, of one or two all
        for reads in [step.reads] if takes_what_is_there(step) else [(name,) for name in asked]:
            if search.finds_a_gap(when, [cube for read in reads for cube in writers[read]]):
                raise Inconsistent(
                    f"has a step {step.name} that runs with sensors that leave {reads[0]} unwritten"
                )
        others = writers.setdefault(step.writes, [])
        if len(others) == MAX_WRITERS or any(_together(when, other) for other in others):
            raise Inconsistent(f"has a step {step.name} that writes {step.writes} a second time")
        if (step.leaves == "one") != (step.writes == LOGITS):
            raise Inconsistent(f"has a step {step.name} that writes {step.writes}, which is not the answer")
        others.append(when)
    if search.finds_a_gap({}, writers.get(LOGITS, [])):
        raise Inconsistent("has sensors that lead to no answer")


def _check_reads(step: Step) -> None:
    """Every read is another one; a window is read alone."""
    windows = [read for read in step.reads if read.startswith(WINDOW)]
    if len(set(step.reads)) < len(step.reads) or (windows and len(step.reads) > 1):
        raise Inconsistent(f"has a step {step.name} ({step.op}) that reads {', '.join(step.reads)}")


def _outer(name: str) -> set[str]:
    """Names that this one lies in: `a.b/c` lies in `a` and `a.b`, as a weight or value of theirs would."""
    return {name[:i] for i, letter in enumerate(name) if letter in "./"}


def _when(step: Step, names: Iterable[str]) -> When:
    """Which sensors must be on or off for a step to run; sensors cut away for good are always off."""
    when = dict.fromkeys(step.needs, True)
    if set(step.needs) - set(names) or set(step.needs) & set(step.lacks):
        raise Inconsistent(f"has a step {step.name} that never runs")
    if any(len(set(group)) < len(group) for group in (step.needs, step.lacks, step.parts)):
        raise Inconsistent(f"has a step {step.name} that names a sensor or a part twice")
    return when | dict.fromkeys((name for name in step.lacks if name in names), False)


def _together(a: When, b: When) -> bool:
    return all(b.get(name, on) == on for name, on in a.items())


class _Search:
    """Looks for a set of sensors, not the empty one, in which none of some conditions holds.

    Args:
        names: every sensor.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.n = len(tuple(names))
        self.work = 0

    def finds_a_gap(self, fixed: When, cubes: Sequence[When]) -> bool:
        """Whether such a set exists among those that agree with `fixed`."""
        self.work += 1 + len(cubes)
        if self.work > MAX_WORK:
            raise Inconsistent("has steps whose conditions are too tangled to check")
        open_ones = []
        for cube in cubes:
            if all(fixed.get(name, on) == on for name, on in cube.items()):
                left = {name: on for name, on in cube.items() if name not in fixed}
                if not left:
                    return False
                open_ones.append(left)
        if not open_ones:
            return any(fixed.values()) or len(fixed) < self.n
        # the cube with fewest conditions left must fail by one of them: the first, or the second, ...
        tried = dict(fixed)
        for name, on in min(open_ones, key=len).items():
            if self.finds_a_gap({**tried, name: not on}, open_ones):
                return True
            tried[name] = on
        return False
