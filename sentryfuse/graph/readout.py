"""The readout of one set of sensors as one graph, from raw windows to log probabilities or numbers.

What is linear is multiplied out when the graph is written, heads that weigh nothing are left out, and scores
are not centred over the classes, because every step that follows takes any constant away.

Notation: B windows · T steps · C channels · F features · K classes · M sensors · H heads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sentryfuse.errors import ConfigError
from sentryfuse.graph.codes import Codes, columns_of, write_codes
from sentryfuse.graph.statistics import LARGEST, write_alike
from sentryfuse.graph.trees import Placed, write_boosted, write_trees
from sentryfuse.graph.wire import Shape
from sentryfuse.graph.writer import Graph
from sentryfuse.planning.layout import WINDOW
from sentryfuse.readout.discriminant import FLOOR
from sentryfuse.readout.encode import CLIP
from sentryfuse.readout.readout import Readout, Solved
from sentryfuse.readout.trees import Trees
from sentryfuse.statistics import feature_names
from sentryfuse.types import Modality

READOUT = "readout"  # name of the output
MEAN, INVERSE, QUARTILES = "mean.", "inverse.", "quartiles."  # prefixes of inputs
Doubles = NDArray[np.float64]
_SORT, _SORT_OUTSIDE, _SORT_MEASURED = 4.5e-3, 15.0, 60.0  # [us]; a comparison here, a call of numpy


def sorted_outside(modalities: Iterable[Modality], batch: int | None) -> tuple[str, ...]:
    """Sensors whose quartiles numpy finds sooner than the graph, where it may be given them.

    Args:
        modalities: of the sensors present.
        batch: windows per call.
    """
    found: list[str] = []
    for group in _alike([*modalities], batch):
        m = group[0]
        sort = _SORT * len(group) * (batch or 8) * m.n_channels * m.length * np.log2(m.length)
        if m.length > 1 and sort > (_SORT_MEASURED if m.may_miss else _SORT_OUTSIDE):
            found += [one.name for one in group]
    return tuple(found)


def write_readout(
    readout: Readout,
    solved: Solved,
    modalities: Iterable[Modality],
    *,
    batch: int | None,
    fused: bool,
    quartiles: bool = False,
) -> bytes:
    """Write the readout of the sensors that `solved` is for.

    Args:
        readout: fitted on `sentryfuse.statistics.features`.
        solved: of `readout.solve`.
        modalities: of those sensors; others are not looked at.
        batch: windows per call; `None` leaves it open.
        fused: as for `Graph`; trees are one operator of onnxruntime then.
        quartiles: they are given where that is quicker: sorting is most of the time of a graph.

    Returns:
        A model whose inputs are `window.<name>` `(B, T, C)`; with `quartiles` also `quartiles.<name>`
        `(B, C, 3)` of `sentryfuse.statistics.quartiles` for `sorted_outside`; where the readout
        standardises by person also `mean.<name>` and `inverse.<name>` `(F,)`, of a `Scale` or of its
        `of_person`. Its output is `readout`, log probabilities or standardised numbers `(B, K)`, those of
        `Readout.log_probabilities` up to rounding.

    Raises:
        ConfigError: a sensor without modality or with another number of features, or trees too large for an
            engine without an operator for them.
    """
    known = {m.name: m for m in modalities}
    for name in solved.sensors:
        wanted = len(readout.parts.scales[name].mean)
        given = len(feature_names(known[name])) if name in known else None
        if given != wanted:
            raise ConfigError(
                f"the readout has {wanted} features of {name}, its modality gives {given}; "
                "give the modalities it was fitted on"
            )
    graph = Graph(1, batch=batch, fused=fused)
    rows = "batch" if batch is None else batch
    inputs: dict[str, Shape] = {}
    tables, order = [], []
    present = [known[name] for name in solved.sensors]
    outside = sorted_outside(present, batch) if quartiles else ()
    for group in _alike(present, batch):
        m, names = group[0], [one.name for one in group]
        windows = [WINDOW + name for name in names]
        inputs |= dict.fromkeys(windows, (rows, m.length, m.n_channels))
        given_quartiles = [QUARTILES + name for name in names if name in outside]
        inputs |= dict.fromkeys(given_quartiles, (rows, m.n_channels, 3))
        found = write_alike(graph, m, windows, given_quartiles)
        tables.append(_side_by_side(graph, found, len(group), batch, len(feature_names(m))))
        order += names
    table = tables[0] if len(tables) == 1 else graph.op("Concat", *tables, axis=1)
    z = _standardised(graph, table, readout, order, inputs)
    _Heads(graph, readout, solved, order, z).write()
    return graph.finish(inputs, (READOUT, (rows, len(readout.classes))))


def _alike(modalities: Sequence[Modality], batch: int | None) -> list[list[Modality]]:
    """Sensors that are described together, where the number of windows is known."""
    groups: dict[object, list[Modality]] = {}
    for m in modalities:
        key = m.name if batch is None else (m.length, m.n_channels, m.may_miss)
        groups.setdefault(key, []).append(m)
    return [*groups.values()]


def _side_by_side(graph: Graph, rows: str, n: int, batch: int | None, size: int) -> str:
    """`(n * B, F)` -> `(B, n * F)`."""
    if n == 1 or batch is None:
        return rows
    if batch > 1:
        rows = graph.turn(graph.reshape(rows, n, batch, size), 1, 0, 2)
    return graph.reshape(rows, batch, n * size)


def _standardised(
    graph: Graph, table: str, readout: Readout, order: Sequence[str], inputs: dict[str, Shape]
) -> str:
    """Features standardised one by one, 0 where unknown, `(B, F)`; see `sentryfuse.readout.encode.Scale`."""
    scales = [readout.parts.scales[name] for name in order]
    if readout.person_weight is None:
        mean = graph.hold(np.concatenate([scale.mean for scale in scales]))
        inverse = graph.hold(np.concatenate([scale.inverse for scale in scales]))
    else:
        for prefix in (MEAN, INVERSE):
            inputs |= {prefix + name: (len(readout.parts.scales[name].mean),) for name in order}
        mean, inverse = (
            graph.op("Concat", *(prefix + name for name in order), axis=0) for prefix in (MEAN, INVERSE)
        )
    known = graph.op("LessOrEqual", graph.op("Abs", table), graph.hold(LARGEST))
    z = graph.op("Mul", graph.op("Sub", table, mean), inverse)
    z = graph.op("Where", known, z, graph.hold(0.0))
    return graph.op("Clip", z, graph.hold(-CLIP), graph.hold(CLIP))


class _Heads:
    """Everything after the standardised features; see `sentryfuse.readout.readout.heads_from`."""

    def __init__(self, graph: Graph, readout: Readout, solved: Solved, order: Sequence[str], z: str) -> None:
        self.graph, self.parts, self.solved = graph, readout.parts, solved
        self.order, self.z, self.k = order, z, len(readout.classes)
        self.numbers = not readout.target.of_classes
        self.sizes = {s: len(self.parts.scales[s].mean) for s in order}
        weights = dict(zip(readout.heads, solved.pool.tolist(), strict=True))
        self.prior = weights.pop("prior") * readout.log_prior
        self.weights = {head: w for head, w in weights.items() if w != 0}

    def write(self) -> None:
        """The answer, under the name `readout`."""
        graph, flat, pool = self.graph, [], []
        by_expert = {"sum", "stack"} & self.weights.keys()
        encoded = {}
        for i, view in enumerate(self.parts.views):
            joint = view.joint is not None and f"joint{i}" in self.weights
            readers = [s for s in self.order if by_expert and self.parts.experts[s].view == i]
            wanted = [*self.order] if joint else readers
            if wanted:
                z = columns_of(graph, self.z, self.sizes, wanted)
                encoded[i] = write_codes(graph, z, {s: view.encodings[s] for s in wanted})
            if joint:
                flat.append(self._joint(i, encoded[i]))
                pool.append(self.weights[f"joint{i}"])
        trees = self._trees()
        combined = [head for head in ("sum", "stack", "trees_sum") if head in self.weights]
        if combined:
            flat.append(self._combined(combined, encoded, trees.get("single", "")))
            pool += [self.weights[head] for head in combined]
        if "both" in trees:
            flat.append(graph.reshape(trees["both"], -1, self.k))
            pool.append(self.weights["trees"])
        boosted = self.parts.boosted.get(self.solved.sensors)
        if "boosted" in self.weights and boosted is not None:
            flat.append(write_boosted(graph, self.z, self._placed(self.solved.sensors, boosted)))
            pool.append(self.weights["boosted"])
        if not flat:  # the prior alone
            nothing = graph.hold(np.zeros((sum(self.sizes.values()), self.k)))
            flat, pool = [graph.op("MatMul", self.z, nothing)], [1.0]
        logits = flat[0] if len(flat) == 1 else graph.op("Concat", *flat, axis=1)
        scores = self._scores(graph.reshape(logits, -1, len(pool), self.k))
        pooled = graph.reshape(graph.op("MatMul", graph.hold([pool]), scores), -1, self.k)
        if self.numbers:
            graph.op("Add", pooled, graph.hold(self.prior), writes=READOUT)
        else:
            graph.op("LogSoftmax", graph.op("Add", pooled, graph.hold(self.prior)), axis=-1, writes=READOUT)

    def _scores(self, logits: str) -> str:
        """Log probabilities, floored, `(B, ..., K)`; what they have in common does not count. Or numbers."""
        if self.numbers:
            return logits
        log = self.graph.op("LogSoftmax", logits, axis=-1)
        return self.graph.op("Max", log, self.graph.hold(FLOOR))

    def _joint(self, i: int, codes: Codes) -> str:
        """The discriminant over all sensors, `(B, K)`."""
        view, solved = self.parts.views[i], self.solved.joint[i]
        assert view.joint is not None
        assert solved is not None
        projection = dict(zip(view.encodings, view.joint.projections, strict=True))
        weights, start = {}, 0
        for s in self.solved.sensors:
            own = projection[s].astype(np.float32).astype(np.float64)
            weights[s] = own @ solved[0][start : start + own.shape[1]]
            start += own.shape[1]
        return codes.whole(weights, solved[1].astype(np.float64))

    def _trees(self) -> dict[str, str]:
        """Logits of the trees on each sensor, `(B, M, K)`, and on all together, `(B, 1, K)`."""
        sets: list[tuple[str, ...]] = []
        names = self.solved.sensors
        if self.parts.trees and {"trees_sum", "stack"} & self.weights.keys():
            sets += [(s,) for s in self.order]
        single = len(sets)
        if "trees" in self.weights and len(names) > 1 and names in self.parts.trees:
            sets.append(names)
        if not sets:
            return {}
        placed = [self._placed(s, self.parts.trees[s]) for s in sets]
        logits = write_trees(self.graph, self.z, placed)
        if single == 0:
            return {"both": logits}
        if single == len(sets):
            return {"single": logits}
        return dict(zip(("single", "both"), self.graph.split(logits, 1, [single, 1]), strict=True))

    def _placed(self, names: Sequence[str], trees: Trees) -> Placed:
        """Trees and where the features of their sensors stand."""
        starts = dict(zip(self.sizes, np.cumsum([0, *self.sizes.values()]).tolist(), strict=False))
        columns = [np.arange(starts[s], starts[s] + self.sizes[s]) for s in names]
        return Placed(trees, np.concatenate(columns))

    def _combined(self, heads: Sequence[str], encoded: Mapping[int, Codes], trees: str) -> str:
        """Heads over what each sensor says alone, `(B, heads * K)`."""
        graph, k = self.graph, self.k
        rows: list[tuple[str, str]] = []  # who says what stands where
        logits = []
        if {"sum", "stack"} & {*heads}:
            biases: list[Doubles] = []
            for i, codes in encoded.items():
                mine = [s for s in self.order if self.parts.experts[s].view == i]
                if not mine:
                    continue
                weights = {s: self.parts.experts[s].weights.astype(np.float64) for s in mine}
                found, shifts = codes.each(weights)
                logits += found
                biases += [self.parts.experts[s].bias + shift for s, shift in zip(mine, shifts, strict=True)]
                rows += [(s, "linear") for s in mine]
            flat = logits[0] if len(logits) == 1 else graph.op("Concat", *logits, axis=1)
            logits = [
                graph.reshape(graph.op("Add", flat, graph.hold(np.concatenate(biases))), -1, len(rows), k)
            ]
        if trees:
            logits.append(trees)
            rows += [(s, "trees") for s in self.order]
        both = logits[0] if len(logits) == 1 else graph.op("Concat", *logits, axis=1)
        scores = graph.reshape(self._scores(both), -1, len(rows) * k)
        matrix = np.zeros((len(rows), k, len(heads), k))
        bias = np.zeros((len(heads), k))
        for h, head in enumerate(heads):
            if head == "stack":
                matrix[:, :, h], bias[h] = self._stack(rows), self.solved.stack[1]
            else:
                kind = "linear" if head == "sum" else "trees"
                for r, (_, what) in enumerate(rows):
                    matrix[r, :, h] = np.eye(k) * (what == kind)
        held = graph.hold(matrix.reshape(len(rows) * k, -1)), graph.hold(bias.reshape(-1))
        return graph.op("Gemm", scores, *held)

    def _stack(self, rows: Sequence[tuple[str, str]]) -> Doubles:
        """Weights of the solved stack, in another order and for scores that are not centred, `(R, K, K)`."""
        k, kinds = self.k, ("linear", "trees") if self.parts.trees else ("linear",)
        given = [(s, kind) for s in self.solved.sensors for kind in kinds]
        blocks = self.solved.stack[0].astype(np.float64).reshape(len(given), k, k)
        if not self.numbers:
            blocks = blocks - blocks.mean(axis=1, keepdims=True)
        place = {key: i for i, key in enumerate(given)}
        return np.stack([blocks[place[key]] for key in rows])
