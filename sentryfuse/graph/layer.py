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
    """Attention, optional halving, feed-forward; with a source, keys and values come from there."""
    pre = site.option("norm", ["pre", "post"]) == "pre"
    heads, ffn = _blocks(site)
    site.multiplies(per_token=3 * site.d_model**2 if site.step.leaves == "half" else 0)
    x, asked = graph.flat(tokens), graph.flat(source) if source else None
    into = _norm(graph, site, "norm_attn", x) if pre else x
    if asked and pre:
        asked = _norm(graph, site, "norm_attn", asked)
    x = graph.op("Add", x, attention(graph, site, heads, into, asked))
    if not pre:
        x = _norm(graph, site, "norm_attn", x)
    if site.step.leaves == "half":
        x = _halve(graph, site, x)
    into = _norm(graph, site, "norm_ffn", x) if pre else x
    x = graph.op("Add", x, (experts if ffn.active else feedforward)(graph, site, ffn, into))
    return Tokens(site.span.leaving, flat=x if pre else _norm(graph, site, "norm_ffn", x))


def _blocks(site: Site) -> tuple[Block, Block]:
    found = {block.name.removeprefix(f"{site.step.name}."): block for block in site.step.blocks}
    if set(found) != {"attn", "ffn"} or found["attn"].kind != "heads" or found["ffn"].kind != "ffn":
        raise Misfit(f"has a layer {site.step.name} with other blocks than attn and ffn")
    return found["attn"], found["ffn"]


def _norm(graph: Graph, site: Site, name: str, x: str) -> str:
    d = site.d_model
    return graph.norm(x, site.weight(f"{name}.weight", d), site.weight(f"{name}.bias", d))


def _halve(graph: Graph, site: Site, x: str) -> str:
    """Convolution and max-pooling over three neighbours with stride 2, as slices and one product."""
    length, d = site.span.entering, site.d_model
    left, y = (length + 1) // 2, graph.reshape(x, -1, length, d)
    neighbours = []
    for edge in (0.0, LOWEST):
        padded = graph.op("Pad", y, graph.ints(0, 1, 0, 0, 2, 0), graph.hold(edge))
        ends = ((graph.ints(k), graph.ints(k + 2 * left - 1)) for k in range(3))
        neighbours.append([graph.op("Slice", padded, *at, graph.ints(1), graph.ints(2)) for at in ends])
    y = graph.reshape(graph.op("Concat", *neighbours[0], axis=2), -1, 3 * d)
    y = graph.linear(y, site.weight("halve.weight", d, 3 * d), site.weight("halve.bias", d))
    return graph.op("Add", y, graph.reshape(graph.op("Max", *neighbours[1]), -1, d))
