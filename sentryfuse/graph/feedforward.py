"""Feed-forward and mixture of experts; the same computation as `sentryfuse.model.feedforward`.

Notation: B windows · L tokens · D d_model · F FFN channels · E experts · W channels of the widest expert.
"""

from __future__ import annotations

import numpy as np

from sentryfuse.graph.kinds import Site
from sentryfuse.graph.writer import LAST, Graph
from sentryfuse.planning.layout import Block
from sentryfuse.planning.units import kept_groups

LOWEST = -1e9  # silences experts
ACTIVATIONS = {"relu": "Relu", "gelu": "Gelu"}


def feedforward(graph: Graph, site: Site, block: Block, x: str) -> str:
    """Two products with a GELU between them, or the activation that the step names, `(B * L, D)` -> same."""
    w, act = site.block(block), "Gelu"
    if "activation" in site.step.options:
        act = ACTIVATIONS[site.option("activation", [*ACTIVATIONS])]
    hidden = graph.op(act, graph.linear(x, w["ffn.up.weight"], w["ffn.up.bias"]))
    return graph.linear(hidden, w["ffn.down.weight"], w["ffn.down.bias"])


def experts(graph: Graph, site: Site, block: Block, x: str) -> str:
    """A mixture of experts over all tokens, `(B * L, D)` -> `(B * L, D)`."""
    w, kept = site.block(block), site.kept[block.name]
    groups, length = kept_groups(block, kept), site.span.leaving
    act = ACTIVATIONS[site.option("activation", [*ACTIVATIONS])]
    raw = site.option("weighting", ["raw", "softmax"]) == "raw"
    n, d = max(groups) + 1, site.d_model
    logits = graph.linear(x, w["ffn.router.weight"], w["ffn.router.bias"])
    best, _ = graph.ops("TopK", logits, graph.ints(min(block.active, n)), outputs=2, axis=-1)
    active = graph.op("GreaterOrEqual", logits, graph.cut(best, 1, -1, LAST))
    worth = graph.op("Where", active, logits, graph.hold(0.0 if raw else LOWEST))
    if not raw:
        worth = graph.op("Softmax", worth, axis=-1)
    if not block.capacity:
        hidden = graph.op(act, graph.linear(x, w["ffn.up.weight"], w["ffn.up.bias"]))
        hidden = graph.op("Mul", hidden, graph.op("Gather", worth, graph.hold(groups, np.int64), axis=1))
        said = graph.op("MatMul", hidden, graph.hold(w["ffn.down.weight"].T))
        return graph.op("Add", said, graph.op("MatMul", worth, graph.hold(w["ffn.bias"])))

    wish = graph.reshape(graph.op("Where", active, logits, graph.hold(LOWEST)), -1, length, n)
    taken = block.places(length, n)
    _, rows = graph.ops(
        "TopK", graph.turn(wish, 2, 0, 1), graph.ints(taken), outputs=2, axis=-1
    )  # (E, B, taken)
    rows = graph.reshape(graph.op("Add", rows, _first_rows(graph, site, rows, length)), n, -1)
    seats = np.array(block.seats(kept))  # (E, W), -1 where an expert is narrower
    there = (seats >= 0)[..., None]
    up, bias, down = (
        each[np.maximum(seats, 0)] for each in (w["ffn.up.weight"], w["ffn.up.bias"], w["ffn.down.weight"].T)
    )
    asking = graph.reshape(graph.op("Gather", x, graph.reshape(rows, -1), axis=0), n, -1, d)
    hidden = graph.op("MatMul", asking, graph.hold(up.transpose(0, 2, 1)))
    hidden = graph.op(act, graph.op("Add", hidden, graph.hold(bias[:, None])))
    said = graph.op("MatMul", hidden, graph.hold(down * there))
    said = graph.op("Add", said, graph.hold(w["ffn.bias"][:, None]))
    share = graph.op("GatherElements", graph.turn(worth, 1, 0), rows, axis=1)
    said = graph.reshape(graph.op("Mul", said, graph.op("Unsqueeze", share, graph.ints(2))), -1, d)
    nothing = graph.op("Mul", x, graph.hold(0.0))
    return graph.op("ScatterND", nothing, graph.reshape(rows, -1, 1), said, reduction="add")


def _first_rows(graph: Graph, site: Site, rows: str, length: int) -> str:
    """The row of each window's first token, `(B, 1)`."""
    if site.batch:
        return graph.hold(length * np.arange(site.batch)[:, None], np.int64)
    windows = graph.op("Squeeze", graph.op("Shape", rows, start=1, end=2), graph.ints(0))
    numbers = graph.op("Range", graph.hold(0, np.int64), windows, graph.hold(1, np.int64))
    return graph.op("Unsqueeze", graph.op("Mul", numbers, graph.ints(length)), graph.ints(1))
