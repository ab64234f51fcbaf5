"""Values side by side, averaged or normalised; the same computation as `sentryfuse.model.joins`."""

from __future__ import annotations

from sentryfuse.graph.kinds import Misfit, Site, emits
from sentryfuse.graph.writer import Graph, Tokens

MANY = 2000  # values read at most


@emits("concat", reads=(1, MANY))
def concat(graph: Graph, site: Site, *reads: Tokens) -> Tokens:
    """Tokens of all values, one after another."""
    site.multiplies()
    length = sum(value.length for value in reads)
    if graph.batch == 1 and not any(value.full for value in reads):
        return Tokens(length, flat=graph.op("Concat", *(graph.flat(value) for value in reads), axis=0))
    return Tokens(length, full=graph.op("Concat", *(graph.full(value) for value in reads), axis=1))


@emits("mean", reads=(1, MANY))
def mean(graph: Graph, site: Site, *reads: Tokens) -> Tokens:
    """The average of values of one length."""
    site.multiplies()
    if len({value.length for value in reads}) > 1:
        raise Misfit(f"has a step {site.step.name} that averages values of different lengths")
    return Tokens(reads[0].length, full=graph.op("Mean", *(graph.full(value) for value in reads)))


@emits("norm")
def norm(graph: Graph, site: Site, x: Tokens) -> Tokens:
    """Layer norm of every token."""
    site.multiplies()
    d = site.d_model
    scale, shift = site.weight("norm.weight", d), site.weight("norm.bias", d)
    return Tokens(x.length, flat=graph.norm(graph.flat(x), scale, shift))
