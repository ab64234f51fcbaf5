"""Which of a sub-network's steps one sensor has to itself: they can run apart, and only when it has news.

window.temp -> embed.temp -> encoder.temp --+    apart: its tokens are made once and used again
+-- fusion -> head -> logits      the rest
window.acc  -> embed.acc  -> encoder.acc  --+
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sentryfuse.graph import LOGITS, Part
from sentryfuse.planning.layout import WINDOW, Layout


def whole(layout: Layout, present: Sequence[str]) -> Part:
    """Everything that runs with these sensors, as one part."""
    return Part(layout.route(present), tuple(present), (), LOGITS)


def split(layout: Layout, present: Sequence[str], apart: Collection[str]) -> tuple[dict[str, Part], Part]:
    """Part what some sensors have to themselves from the rest.

    Args:
        layout: of the model.
        present: names of the sensors that are on, in the model's order.
        apart: sensors to part, if they are on; one that hands on more than one value stays with the rest.

    Returns:
        Sensor -> its part, and the rest.
    """
    route = layout.route(present)
    parts: dict[str, Part] = {}
    for name in present:
        if name not in apart:
            continue
        own, made = [], {f"{WINDOW}{name}"}
        for step in route:
            if step.needs == (name,) and made.issuperset(step.reads):
                own.append(step)
                made.add(step.writes)
        later = {read for step in route if step not in own for read in step.reads}
        handed = later & {step.writes for step in own}
        if own and len(handed) == 1:
            parts[name] = Part(tuple(own), (name,), (), handed.pop())
    taken = [step for part in parts.values() for step in part.steps]
    rest = tuple(step for step in route if step not in taken)
    return parts, Part(
        rest,
        tuple(name for name in present if name not in parts),
        tuple(part.writes for part in parts.values()),
        LOGITS,
    )
