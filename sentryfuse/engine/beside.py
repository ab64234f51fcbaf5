"""The readout of one set of sensors ready to answer, beside any sub-network of the same sensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Lock
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from sentryfuse.bundle import Bundle
from sentryfuse.engine.engines import Engine
from sentryfuse.graph.readout import INVERSE, MEAN, QUARTILES, sorted_outside, write_readout
from sentryfuse.planning.layout import WINDOW
from sentryfuse.readout import Person, Readout
from sentryfuse.statistics import quartiles
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
        self._readout, self._names = readout, tuple(m.name for m in modalities)
        sizes = batch if engine.fused else None  # as sub-networks are written
        graph = write_readout(
            readout,
            readout.solve(self._names),
            modalities,
            batch=sizes,
            fused=engine.fused,
            quartiles=True,
        )
        self._answer = engine.build(graph, threads=threads, batch=batch)
        outside = set(sorted_outside(modalities, sizes))
        alike: dict[tuple[int, int, bool], list[Modality]] = {}
        for m in modalities:
            if m.name in outside:
                alike.setdefault((m.length, m.n_channels, m.may_miss), []).append(m)
        self._sorted = [*alike.values()]
        self._population: dict[str, Array] = {}
        if readout.person_weight is not None:
            for name in self._names:
                scale = readout.parts.scales[name]
                self._population |= {f"{MEAN}{name}": scale.mean, f"{INVERSE}{name}": scale.inverse}

    def __call__(self, windows: Mapping[str, Array], person: Mapping[str, Person] | None) -> Array:
        """Log probabilities, `(B, K)`.

        Args:
            windows: modality -> `(B, T, C)`, physical units, float32.
            person: moments of the person's features so far; sensors that are not among them, and all of
                them with `None`, are standardised by the population.
        """
        feed = {f"{WINDOW}{name}": windows[name] for name in self._names}
        for group in self._sorted:
            found = quartiles(group[0], np.concatenate([windows[m.name] for m in group]))
            n = len(found) // len(group)
            for i, m in enumerate(group):
                feed[f"{QUARTILES}{m.name}"] = found[i * n : (i + 1) * n]
        feed |= self._population
        weight = self._readout.person_weight
        if weight is not None and person:
            for name in person.keys() & set(self._names):
                mean, inverse = self._readout.parts.scales[name].of_person(person[name], weight)
                feed |= {f"{MEAN}{name}": mean, f"{INVERSE}{name}": inverse}
        return self._answer(feed)


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
