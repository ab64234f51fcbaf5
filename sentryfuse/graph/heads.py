"""Tokens -> logits; the same computation as `sentryfuse.model.heads`.

Notation: B windows · L tokens · M modalities · D d_model · K classes.
"""

from __future__ import annotations

import numpy as np

from sentryfuse.graph.kinds import Misfit, Site, emits
from sentryfuse.graph.writer import Graph, Tokens

LOGITS = "logits"


@emits("mean head")
def mean_head(graph: Graph, site: Site, x: Tokens) -> Tokens:
    """Mean over tokens, norm, linear."""
    d = site.d_model
    y = graph.norm(
        graph.reduce("Mean", graph.full(x), 1), site.weight("norm.weight", d), site.weight("norm.bias", d)
    )
    return _classify(graph, site, y, d)


@emits("linear head")
def linear_head(graph: Graph, site: Site, x: Tokens) -> Tokens:
    """Mean over tokens, linear."""
    return _classify(graph, site, graph.reduce("Mean", graph.full(x), 1), site.d_model)


@emits("hidden head")
def hidden_head(graph: Graph, site: Site, x: Tokens) -> Tokens:
    """Mean over tokens, one hidden layer, linear."""
    d = site.d_model
    weight, bias = site.weight("hidden.weight", d, d), site.weight("hidden.bias", d)
    y = graph.op("Relu", graph.linear(graph.reduce("Mean", graph.full(x), 1), weight, bias))
    return _classify(graph, site, y, d, fixed=d * d)


@emits("modality head")
def modality_head(graph: Graph, site: Site, x: Tokens) -> Tokens:
    """Mean over the tokens of each part, norm, all side by side, linear."""
    d, parts = site.d_model, site.parts
    if not parts or sum(parts) != x.length or not min(parts):
        raise Misfit(f"has a step {site.step.name} whose parts do not make up what it reads")
    ends = np.cumsum(parts)
    shares = np.zeros((len(parts), ends[-1]), np.float32)
    for i, length in enumerate(parts):
        shares[i, ends[i] - length : ends[i]] = 1 / length
    y = graph.op("MatMul", graph.hold(shares), graph.full(x))
    y = graph.norm(y, site.weight("norm.weight", d), site.weight("norm.bias", d))
    return _classify(graph, site, graph.op("Flatten", y, axis=1), len(parts) * d, per_entering=len(parts) * d)


def _classify(
    graph: Graph, site: Site, x: str, width: int, *, per_entering: int = 0, fixed: int = 0
) -> Tokens:
    """The last product, and all that the head multiplies with it."""
    n = site.n_classes
    weight, bias = site.weight("classify.weight", n, width), site.weight("classify.bias", n)
    site.multiplies(per_entering=per_entering, fixed=fixed + n * width)
    return Tokens(1, flat=graph.linear(x, weight, bias, writes=LOGITS))
