"""Grouped-query attention in its dense and its sparse form; as in `sentryfuse.model.attention`.

Notation: B windows · L tokens · D d_model · H heads · G KV groups · K head_dim.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sentryfuse.graph.kinds import Site
from sentryfuse.graph.writer import Graph
from sentryfuse.planning.layout import Block, Span
from sentryfuse.planning.units import kept_groups

Array = NDArray[np.float32]


def attention(graph: Graph, site: Site, block: Block, x: str, source: str | None) -> str:
    """Attend within each window.

    Args:
        graph: to write into.
        site: of the layer.
        block: its heads.
        x: normalised tokens, `(B * L, D)`.
        source: where keys and values come from, `(B * L', D)`; `None` = `x`.

    Returns:
        What is added to the tokens, `(B * L, D)`.
    """
    w, span, size = site.block(block), site.span, block.head_dim
    groups = kept_groups(block, site.kept[block.name])
    heads = len(groups)
    picks = site.rule.picks(span.entering, span.source)
    kv = [max(groups) + 1] * 2
    shared = tuple(np.repeat(np.arange(kv[0]), heads // kv[0]))
    # the engine parts and turns heads itself where each key head serves as many query heads in a row
    plain = graph.fused and picks is None and groups == shared
    if source is None:
        q, k, v = _project(graph, w, x, "qkv", [heads, *kv], span.entering, size, plain)
    else:
        (q,) = _project(graph, w, x, "q", [heads], span.entering, size, plain)
        k, v = _project(graph, w, source, "kv", kv, span.source, size, plain)
    if plain:
        out = graph.op("Attention", q, k, v, scale=size**-0.5, q_num_heads=heads, kv_num_heads=kv[0])
    else:
        if groups != tuple(range(heads)):
            k, v = (graph.op("Gather", value, graph.hold(groups, np.int64), axis=1) for value in (k, v))
        out = (
            dense(graph, q, k, v, size) if picks is None else sparse(graph, q, k, v, size, heads, span, picks)
        )
        if heads > 1:
            out = graph.turn(out, 0, 2, 1, 3)
    return graph.linear(graph.reshape(out, -1, heads * size), w["attn.o.weight"], w["attn.o.bias"])


def dense(graph: Graph, q: str, k: str, v: str, size: int) -> str:
    """Softmax attention, `(B, H, L, K)`."""
    if graph.fused:
        return graph.op("Attention", q, k, v, scale=size**-0.5)
    logits = graph.times_turned(graph.op("Mul", q, graph.hold(size**-0.5)), k)
    return graph.op("MatMul", graph.op("Softmax", logits, axis=-1), v)


def sparse(
    graph: Graph, q: str, k: str, v: str, size: int, heads: int, span: Span, picks: tuple[int, int]
) -> str:
    """Exact attention for the most peaked queries of each head, the mean value for all others."""
    strided = np.arange(picks[0]) * span.source // picks[0]
    sampled = graph.op("Gather", k, graph.hold(strided, np.int64), axis=2)
    sampled = graph.op("Sub", sampled, graph.reduce("Mean", sampled, 2, keep=1))
    peaked = graph.reduce("Max", graph.times_turned(q, sampled), 3)
    _, rows = graph.ops("TopK", peaked, graph.ints(picks[1]), outputs=2, axis=-1, sorted=0)
    rows = graph.op("Unsqueeze", rows, graph.ints(3))
    rows = graph.op("Expand", rows, graph.ints(1, heads, picks[1], size))
    exact = dense(graph, graph.op("GatherElements", q, rows, axis=2), k, v, size)
    mean = graph.op("Expand", graph.reduce("Mean", v, 2, keep=1), graph.ints(1, heads, span.entering, size))
    return graph.op("ScatterElements", mean, rows, exact, axis=2)


def _project(
    graph: Graph,
    w: dict[str, Array],
    x: str,
    leaves: str,
    heads: Sequence[int],
    length: int,
    size: int,
    plain: bool,
) -> list[str]:
    """One product for all of these; each then as `(B, its heads, L, K)`, or `(B, L, its heads * K)`."""
    weight, bias = (
        np.concatenate([w[f"attn.{leaf}.{kind}"] for leaf in leaves]) for kind in ("weight", "bias")
    )
    joint = graph.linear(x, weight, bias)
    if plain:
        joint = graph.reshape(joint, -1, length, sum(heads) * size)
        return graph.split(joint, 2, [n * size for n in heads]) if len(leaves) > 1 else [joint]
    if max(heads) == 1:  # nothing to turn
        joint = graph.reshape(joint, -1, 1, length, len(leaves) * size)
        return graph.split(joint, 3, [size] * len(leaves)) if len(leaves) > 1 else [joint]
    joint = graph.turn(graph.reshape(joint, -1, length, sum(heads), size), 0, 2, 1, 3)
    return graph.split(joint, 1, heads) if len(leaves) > 1 else [joint]
