"""Tokens of one sensor by an encoder of somebody's own; the same computation as `sentryfuse.model.encoder`.

Notation: B windows · T steps · C channels · L tokens · D d_model.
"""

from __future__ import annotations

from collections.abc import Mapping

from sentryfuse.errors import ConfigError
from sentryfuse.graph.kinds import Array, Misfit, Site, emits
from sentryfuse.graph.operators import Spot, write_node
from sentryfuse.graph.patch import CLIP
from sentryfuse.graph.writer import Graph, Tokens
from sentryfuse.planning.program import WINDOW, Program, Weight

INPUTS = ("normalised", "physical")  # what the window is given as


@emits("encoder")
def encoder(graph: Graph, site: Site, x: str) -> Tokens:
    """Put the window into training units, run the program, add a position to each token."""
    m, d = site.modality, site.d_model
    if m is None:
        raise Misfit(f"has a step {site.step.name} ({site.step.op}) that reads no window")
    program = site.program()
    try:
        sizes = program.sizes(m.length, m.n_channels)
        length = program.tokens(m.length, m.n_channels, d)
    except ConfigError as error:
        raise Misfit(f"has a step {site.step.name} whose program {error}") from None
    site.multiplies(fixed=sizes.macs)
    weights = {weight.name: _held(site, weight) for weight in program.weights}
    _check_variances(site.step.name, program, weights)
    shapes = {**sizes.values, **{name: value.shape for name, value in weights.items()}}
    names = {WINDOW: _window(graph, site, x)} | {name: graph.hold(value) for name, value in weights.items()}
    for i, node in enumerate(program.nodes):
        reads = [names[name] for name in node.reads]
        spot = Spot(graph, node, reads, [shapes[name] for name in node.reads], shapes[f"v{i}"], x)
        names[f"v{i}"] = write_node(spot)
    position = graph.hold(site.weight("position", length, d))
    return Tokens(length, full=graph.op("Add", names[f"v{len(program.nodes) - 1}"], position))


def _window(graph: Graph, site: Site, x: str) -> str:
    """The window as the encoder gets it, `(B, T, C)`: what was not measured is the training mean."""
    m = site.modality
    assert m is not None
    mean = graph.hold(site.measured("normalise.mean", m.n_channels))
    std = site.measured("normalise.std", m.n_channels)
    if not std.min() > 0:
        raise Misfit(f"holds deviations that are not positive in {site.step.name}.normalise.std")
    if site.option("input", INPUTS) == "physical":
        return graph.op("Where", graph.op("IsNaN", x), mean, x) if m.may_miss else x
    z = graph.op("Mul", graph.op("Sub", x, mean), graph.hold(1 / std))
    z = graph.op("Clip", z, graph.hold(-CLIP), graph.hold(CLIP))
    return graph.op("Where", graph.op("IsNaN", x), graph.hold(0.0), z) if m.may_miss else z


def _held(site: Site, weight: Weight) -> Array:
    take = site.measured if weight.role == "measured" else site.weight
    return take(f"own.{weight.name}", *weight.shape)


def _check_variances(step: str, program: Program, weights: Mapping[str, Array]) -> None:
    """Refuse a batch norm that would divide by the root of nothing."""
    for node in program.nodes:
        if node.op == "batch norm" and node.reads[2] in weights:
            eps = node.options["eps"]
            assert isinstance(eps, int | float)
            if not weights[node.reads[2]].min() + eps > 0:
                raise Misfit(f"holds variances that are not positive in {step}.own.{node.reads[2]}")
