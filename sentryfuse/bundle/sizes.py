"""How much memory an answer can take, whatever sensors are on: bounded before anything of that size is made.

A few bytes can ask for a lot: a window of a million steps, joins of joins, attention without a sparse core.
"""

from __future__ import annotations

import math
from collections import Counter

from sentryfuse.bundle.container import Inconsistent
from sentryfuse.errors import ConfigError
from sentryfuse.planning.layout import AttentionRule, Block, Layout, Step
from sentryfuse.types import Modality

MAX_WRITTEN = 1 << 25  # numbers of one window, and of all that steps write for it
MAX_INSIDE = 10**8  # numbers of one value inside a step
PER_SAMPLE = 50  # numbers that a sample of a patch is described in, at most
MAX_UNEVEN = 16  # experts side by side are as wide as the widest; so much more than they hold


def check_sizes(layout: Layout) -> None:
    """Bound what the steps of a layout write, and what they make on the way.

    Args:
        layout: its steps follow one another.

    Raises:
        Inconsistent: naming the step that asks for too much.
    """
    sizes = {m.name: m for m in layout.modalities}
    total = sum(m.length * m.n_channels for m in layout.modalities)
    longest: dict[str, int] = {}  # of the values that several steps may write
    for step in layout.steps:
        lengths = [longest.get(name, 0) for name in step.reads]
        entering = step.tokens or (sum(lengths) if step.leaves == "sum" else max(lengths, default=0))
        leaving = {"one": 1, "half": (entering + 1) // 2}.get(step.leaves, entering)
        longest[step.writes] = max(longest.get(step.writes, 0), leaving)
        total += entering * max(layout.d_model, len(step.parts))
        if step.window is not None:
            m = sizes[step.window]
            total += _made(step, m)
            total += m.length * m.n_channels + PER_SAMPLE * m.length // max(step.tokens, 1)
        if total > MAX_WRITTEN:
            raise Inconsistent(f"has windows and values of more than {MAX_WRITTEN} numbers at {step.name}")
        for block in step.blocks:
            source = lengths[-1] if lengths else 0
            if _inside(block, layout.attention, layout.d_model, entering, source) > MAX_INSIDE:
                raise Inconsistent(f"has a block {block.name} that works on more than {MAX_INSIDE} numbers")


def _made(step: Step, m: Modality) -> int:
    """Numbers that an encoder of somebody's own makes of one window; sees that its nodes fit together."""
    if step.program is None:
        return 0
    try:
        return step.program.sizes(m.length, m.n_channels).held
    except ConfigError as error:
        raise Inconsistent(f"has a step {step.name} whose program {error}") from None


def _inside(block: Block, rule: AttentionRule, d_model: int, entering: int, source: int) -> int:
    """Numbers of the largest value that a block makes for one window."""
    if block.kind == "heads":
        few = max(entering, source)
        if rule.core == "sentry":  # dense below some length, then so many keys and queries
            few = max(rule.sparse_from, rule.factor * math.ceil(math.log(max(few, 2))))
        logits = max(entering * min(source, few), source * min(entering, few))
        return block.units * max(logits, block.head_dim * max(entering, source))
    if not block.capacity:
        return block.units * entering
    widths = Counter(block.groups).values()
    n, widest = len(widths), max(widths)
    if n * widest > MAX_UNEVEN * block.units:
        raise Inconsistent(f"has experts in {block.name} that are too uneven to work side by side")
    return n * block.places(entering, n) * max(widest, d_model)
