"""The readout of one set of sensors as one graph, from raw windows to log probabilities or numbers.

What is linear is multiplied out when the graph is written, heads that weigh nothing are left out, and scores
are not centred over the classes, because every step that follows takes any constant away.

Notation: B windows · T steps · C channels · F features · K classes · M sensors · H heads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentryfuse.errors import ConfigError
from sentryfuse.graph.codes import Codes, columns_of, side_by_side, write_codes
from sentryfuse.graph.statistics import LARGEST, write_alike, write_turned
from sentryfuse.graph.trees import Placed, write_boosted, write_trees
from sentryfuse.graph.wire import Shape
from sentryfuse.graph.writer import Graph
from sentryfuse.planning.layout import WINDOW
from sentryfuse.readout.discriminant import FLOOR
from sentryfuse.readout.encode import CLIP
from sentryfuse.readout.readout import Readout, Solved
from sentryfuse.readout.trees import Trees
from sentryfuse.statistics import feature_names
from sentryfuse.statistics.order import SHARES
from sentryfuse.types import Modality

READOUT = "readout"  # name of the output
MEAN, INVERSE = "mean", "inverse"  # inputs
TURNED, ORDER = "turned.", "order."  # prefixes of inputs
Doubles = NDArray[np.float64]
_SORT, _SORT_OUTSIDE, _SORT_MEASURED = 4.5e-3, 15.0, 60.0  # [us]; a comparison here, a call of numpy


class Alike(NamedTuple):
    """Sensors of the same length, channels and gaps, which are described together.

    Attributes:
        sensors: in the model's order.
        outside: numpy sorts their windows sooner than the graph, where it may be given them.
    """

    sensors: tuple[Modality, ...]
    outside: bool


def alike(modalities: Iterable[Modality], batch: int | None) -> list[Alike]:
    """Sensors as a readout's graph describes them, which is also the order of its features.

    Args:
        modalities: of the sensors present.
        batch: windows per call; where it is open every sensor stands alone.
    """
    groups: dict[object, list[Modality]] = {}
    for m in modalities:
        key = m.name if batch is None else (m.length, m.n_channels, m.may_miss)
        groups.setdefault(key, []).append(m)
    found = []
    for group in groups.values():
        m = group[0]
        sort = _SORT * len(group) * (batch or 8) * m.n_channels * m.length * np.log2(m.length)
        outside = m.length > 1 and sort > (_SORT_MEASURED if m.may_miss else _SORT_OUTSIDE)
        found.append(Alike(tuple(group), bool(outside)))
    return found


def write_readout(
    readout: Readout,
    solved: Solved,
    modalities: Iterable[Modality],
    *,
    batch: int | None,
    fused: bool,
    sorts: bool = True,
) -> bytes:
    """Write the readout of the sensors that `solved` is for.

    Args:
        readout: fitted on `sentryfuse.statistics.features`.
        solved: of `readout.solve`.
        modalities: of those sensors; others are not looked at.
        batch: windows per call; `None` leaves it open.
        fused: as for `Graph`; trees are one operator of onnxruntime then.
        sorts: windows are sorted in the graph, which is most of the time of it; otherwise those of
            groups of `alike` that are `outside` are given as numpy prepares them.

    Returns:
        A model whose inputs are `window.<name>` `(B, T, C)`; without `sorts`, of groups that are outside,
        named by their first sensor, `turned.<name>` `(sensors * B, C, T)` and `order.<name>`
        `(sensors * B, C, 5)` of `sentryfuse.statistics.order_statistics`. Where the readout standardises by
        person also `mean` and `inverse` `(F,)`, of each sensor's `Scale` or of its `of_person`, in the order
        of `alike`. Its output is `readout`, log probabilities or standardised numbers `(B, K)`, those of
        `Readout.log_probabilities` up to rounding; where it standardises by person the features it read stand
        behind them, in the order of `alike` and not finite where one is not known, `(B, K + F)`.

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
    for sensors, outside in alike((known[name] for name in solved.sensors), batch):
        m, n = sensors[0], len(sensors)
        if outside and not sorts:
            turned, ordered = TURNED + m.name, ORDER + m.name
            many = rows if batch is None else n * batch
            inputs |= {turned: (many, m.n_channels, m.length), ordered: (many, m.n_channels, len(SHARES))}
            found = write_turned(graph, m, turned, ordered)
        else:
            windows = [WINDOW + one.name for one in sensors]
            inputs |= dict.fromkeys(windows, (rows, m.length, m.n_channels))
            found = write_alike(graph, m, windows)
        tables.append(_side_by_side(graph, found, n, batch, len(feature_names(m))))
        order += [one.name for one in sensors]
    table = tables[0] if len(tables) == 1 else graph.op("Concat", *tables, axis=1)
    z = _standardised(graph, table, readout, order, inputs)
    size = len(readout.classes)
    if readout.person_weight is None:
        _Heads(graph, readout, solved, order, z).write(READOUT)
    else:
        answer = _Heads(graph, readout, solved, order, z).write()
        graph.op("Concat", answer, table, axis=1, writes=READOUT)
        size += sum(len(readout.parts.scales[name].mean) for name in order)
    return graph.finish(inputs, (READOUT, (rows, size)))


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
        mean, inverse = MEAN, INVERSE
        inputs |= dict.fromkeys((mean, inverse), (sum(len(scale.mean) for scale in scales),))
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

    def write(self, name: str = "") -> str:
        """The answer, under a name of its own or the given one."""
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
        return self._pooled(logits, pool, name)

    def _pooled(self, logits: str, pool: Sequence[float], name: str) -> str:
        """Heads `(B, H * K)` under their weights."""
        graph, k, n = self.graph, self.k, len(pool)
        weights, prior = graph.hold([pool]), graph.hold(self.prior)
        last = name if self.numbers else ""
        if graph.batch == 1:
            scores = self._scores(graph.reshape(logits, n, k))
            pooled = graph.op("Gemm", weights, scores, prior, writes=last)
        else:
            scores = self._scores(graph.reshape(logits, -1, n, k))
            pooled = graph.reshape(graph.op("MatMul", weights, scores), -1, k)
            pooled = graph.op("Add", pooled, prior, writes=last)
        return pooled if self.numbers else graph.op("LogSoftmax", pooled, axis=-1, writes=name)

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
            view_of = {s: self.parts.experts[s].view for s in self.order}
            read = {i: codes for i, codes in encoded.items() if i in view_of.values()}
            whole = side_by_side(read, view_of)
            parts = [(codes, i) for i, codes in read.items()] if whole is None else [(whole, None)]
            for codes, view in parts:
                mine = [s for s in self.order if view is None or view_of[s] == view]
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
