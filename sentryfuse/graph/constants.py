"""What a sub-network knows because it knows which sensors are present: constants, computed once per plan.

The same formulas as in `sentryfuse.model.constants`.
"""

from __future__ import annotations

import numpy as np

from sentryfuse.graph.kinds import Misfit, Site, emits
from sentryfuse.graph.writer import Graph, Tokens
from sentryfuse.planning.layout import WINDOW


@emits("bank", reads=(0, 0))
def bank(graph: Graph, site: Site) -> Tokens:
    """Tokens that stand for an absent sensor, the same for every window, `(B, P, D)`."""
    d = site.d_model
    site.multiplies()
    on = np.array(
        [part in [f"{WINDOW}{name}" for name in site.present] for part in site.step.parts], np.float32
    )
    tokens = site.weight("base", site.step.tokens, d) + on @ site.weight("given", len(on), d)
    if site.batch:
        return Tokens(site.step.tokens, full=graph.hold(np.repeat(tokens[None], site.batch, 0)))
    # as often as there are windows, which only an input knows; it may hold NaN
    rows = graph.op("Mul", graph.reduce("Sum", site.anchor, 1, 2, keep=1), graph.hold(0.0))
    rows = graph.op("Where", graph.op("IsNaN", rows), graph.hold(0.0), rows)
    return Tokens(site.step.tokens, full=graph.op("Add", rows, graph.hold(tokens[None])))


@emits("codes")
def codes(graph: Graph, site: Site, x: Tokens) -> Tokens:
    """Scale and shift the tokens of every part."""
    d, parts = site.d_model, site.parts
    if not parts or sum(parts) != x.length:
        raise Misfit(f"has a step {site.step.name} whose parts do not make up what it reads")
    site.multiplies()
    n, longest = len(parts), site.rows("temporal")
    on = np.array([length > 0 for length in parts], np.float32)
    hidden = site.weight("hidden.weight", n, n) @ on + site.weight("hidden.bias", n)
    logits = site.weight("budget.weight", n, n) @ np.maximum(hidden, 0) + site.weight("budget.bias", n)
    temporal, modality = site.weight("temporal", longest, d), site.weight("modality", n, d)
    if max(parts) > longest:
        raise Misfit(f"holds {longest} rows in {site.step.name}.temporal, where {max(parts)} are needed")
    with np.errstate(over="ignore"):
        scale = 2 / (1 + np.exp(-logits))
    shift = np.concatenate([temporal[:length] + modality[i] for i, length in enumerate(parts)])
    scaled = graph.op("Mul", graph.full(x), graph.hold(np.repeat(scale, parts)[:, None]))
    return Tokens(x.length, full=graph.op("Add", scaled, graph.hold(shift)))
