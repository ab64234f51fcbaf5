"""The transformer layer; the same computation as `sentryfuse.model.layer`.

Layers of several sensors were tried side by side, as products of several matrices at once: a third fewer
nodes and no less time, since the engine prepares the weights of single products ahead and of many not.
"""

from __future__ import annotations

from sentryfuse.graph.attention import attention
from sentryfuse.graph.feedforward import experts, feedforward
from sentryfuse.graph.kinds import Misfit, Site, emits
from sentryfuse.graph.writer import Graph, Tokens
from sentryfuse.planning.layout import Block

LOWEST = -1e9  # pads the maximum over neighbours


@emits("layer", reads=(1, 2))
def layer(graph: Graph, site: Site, tokens: Tokens, source: Tokens | None = None) -> Tokens:
    """Attention, optional halving, feed-forward; with a source, keys and values come from there.

    Nothing is written of a branch that has lost all of its units; of halving, the pooling stays.
    """
    pre = site.option("norm", ["pre", "post"]) == "pre"
    halves = site.step.leaves == "half"
    heads, ffn = _block(site, "attn", "heads"), _block(site, "ffn", "ffn")
    of_halving = 3 * site.d_model**2 if halves and ffn else 0
    site.multiplies(per_token=of_halving)
    attends, forwards = (block is not None and bool(site.kept[block.name]) for block in (heads, ffn))
    if not (attends or forwards or halves):
        return tokens
    x = graph.flat(tokens)
    if heads and attends:
        asked = graph.flat(source) if source else None
        into = _norm(graph, site, "norm_attn", x) if pre else x
        if asked and pre:
            asked = _norm(graph, site, "norm_attn", asked)
        x = graph.op("Add", x, attention(graph, site, heads, into, asked))
        x = x if pre else _norm(graph, site, "norm_attn", x)
    if halves:
        x = _halve(graph, site, x, whole=forwards)
    if ffn and forwards:
        into = _norm(graph, site, "norm_ffn", x) if pre else x
        x = graph.op("Add", x, (experts if ffn.active else feedforward)(graph, site, ffn, into))
        x = x if pre else _norm(graph, site, "norm_ffn", x)
    if heads:
        site.surrounds(heads, "norm_attn")
    if ffn:
        site.surrounds(ffn, *(["norm_ffn", "halve"] if halves else ["norm_ffn"]), macs=of_halving)
    return Tokens(site.span.leaving, flat=x)


def _block(site: Site, name: str, kind: str) -> Block | None:
    """A block of the layer; `None` where it has been cut away for good."""
    found = {block.name.removeprefix(f"{site.step.name}."): block for block in site.step.blocks}
    if found.keys() - {"attn", "ffn"} or (name in found and found[name].kind != kind):
        raise Misfit(f"has a layer {site.step.name} with other blocks than attn and ffn")
    return found.get(name)


def _norm(graph: Graph, site: Site, name: str, x: str) -> str:
    d = site.d_model
    return graph.norm(x, site.weight(f"{name}.weight", d), site.weight(f"{name}.bias", d))


def _halve(graph: Graph, site: Site, x: str, *, whole: bool) -> str:
    """Convolution (if `whole`) and max-pooling over three neighbours with stride 2, as slices."""
    length, d = site.span.entering, site.d_model
    left, y = (length + 1) // 2, graph.reshape(x, -1, length, d)
    neighbours = []
    for edge in (LOWEST, 0.0) if whole else (LOWEST,):
        padded = graph.op("Pad", y, graph.ints(0, 1, 0, 0, 2, 0), graph.hold(edge))
        ends = ((graph.ints(k), graph.ints(k + 2 * left - 1)) for k in range(3))
        neighbours.append([graph.op("Slice", padded, *at, graph.ints(1), graph.ints(2)) for at in ends])
    pooled = graph.reshape(graph.op("Max", *neighbours[0]), -1, d)
    if not whole:
        return pooled
    y = graph.reshape(graph.op("Concat", *neighbours[1], axis=2), -1, 3 * d)
    y = graph.linear(y, site.weight("halve.weight", d, 3 * d), site.weight("halve.bias", d))
    return graph.op("Add", y, pooled)
