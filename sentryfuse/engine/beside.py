"""The readout of one set of sensors ready to answer, beside any sub-network of the same sensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Lock
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from sentryfuse.bundle import Bundle
from sentryfuse.engine.engines import Engine
from sentryfuse.graph.readout import INVERSE, MEAN, ORDER, TURNED, alike, write_readout
from sentryfuse.planning.layout import WINDOW
from sentryfuse.readout import PersonFeatures, Readout
from sentryfuse.statistics import order_statistics
from sentryfuse.types import Modality

Array = NDArray[np.float32]
KEPT = 8  # sets of sensors whose readout is kept ready, for each bundle


class ReadoutSession:
    """A readout in an engine; several threads may ask it.

    Args:
        readout: of a bundle.
        modalities: those that are present, in the model's order.
        engine: builds the graph.
        threads: of the engine.
        batch: windows per call; `None` allows any.
    """

    def __init__(
        self,
        readout: Readout,
        modalities: Sequence[Modality],
        *,
        engine: Engine,
        threads: int,
        batch: int | None,
    ) -> None:
        sizes = batch if engine.fused else None  # as sub-networks are written
        known = {m.name: m for m in modalities}
        solved = readout.solve(tuple(known))
        graph = write_readout(readout, solved, modalities, batch=sizes, fused=engine.fused, sorts=False)
        self._answer = engine.build(graph, threads=threads, batch=batch)
        groups = alike((known[name] for name in solved.sensors), sizes)
        self._order = [m.name for group in groups for m in group.sensors]
        self._outside = [group.sensors for group in groups if group.outside]
        self._inside = [m.name for group in groups if not group.outside for m in group.sensors]
        self._n_outputs = len(readout.classes)
        self._population: tuple[Array, Array] | None = None
        if readout.person_weight is not None:
            scales = [readout.parts.scales[name] for name in self._order]
            mean, inverse = ([getattr(scale, leaf) for scale in scales] for leaf in ("mean", "inverse"))
            self._population = np.concatenate(mean), np.concatenate(inverse)

    def __call__(self, windows: Mapping[str, Array], person: PersonFeatures | None) -> Array:
        """Log probabilities, `(B, K)`.

        Args:
            windows: modality -> `(B, T, C)`, physical units, float32.
            person: whose features so far standardise these, and who is told of them afterwards; with `None`
                they are standardised by the population.
        """
        feed = {f"{WINDOW}{name}": windows[name] for name in self._inside}
        for sensors in self._outside:
            first = sensors[0]
            x = [windows[m.name] for m in sensors]
            together = x[0] if len(x) == 1 else np.concatenate(x)
            turned = np.ascontiguousarray(together.transpose(0, 2, 1))
            feed[f"{TURNED}{first.name}"] = turned
            feed[f"{ORDER}{first.name}"] = order_statistics(turned, may_miss=first.may_miss)
        if self._population is None:
            return self._answer(feed)
        mean, inverse = self._population if person is None else person.scale(self._order)
        found = self._answer(feed | {MEAN: mean, INVERSE: inverse})
        if person is not None:
            person.see(self._order, found[:, self._n_outputs :])
        return found[:, : self._n_outputs]


_LOCK = Lock()
_READY: WeakKeyDictionary[Bundle, dict[tuple[object, ...], ReadoutSession]] = WeakKeyDictionary()


def readout_session(
    bundle: Bundle, present: Sequence[str], *, engine: Engine, threads: int, batch: int | None
) -> ReadoutSession | None:
    """The readout of a bundle for some sensors, built once for all plans; `None` where it has none."""
    if bundle.mixture is None:
        return None
    key = (tuple(present), type(engine), threads, batch)
    with _LOCK:
        ready = _READY.setdefault(bundle, {})
        found = ready.get(key)
        if found is None:
            while len(ready) >= KEPT:  # the oldest; sub-networks that use it go on doing so
                del ready[next(iter(ready))]
            modalities = [m for m in bundle.layout.modalities if m.name in present]
            found = ready[key] = ReadoutSession(
                bundle.mixture.readout, modalities, engine=engine, threads=threads, batch=batch
            )
    return found


def forget_readouts(bundle: Bundle) -> None:
    """Have the readouts of a bundle built anew for the next sub-networks; those there are keep theirs."""
    with _LOCK:
        _READY.pop(bundle, None)
