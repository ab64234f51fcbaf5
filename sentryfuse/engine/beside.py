"""The readout of one set of sensors ready to answer, beside any sub-network of the same sensors."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from sentryfuse.bundle import Bundle
from sentryfuse.engine.engines import Engine
from sentryfuse.engine.meanwhile import Meanwhile
from sentryfuse.graph.readout import INVERSE, MEAN, ORDER, TURNED, alike, write_readout
from sentryfuse.planning.layout import WINDOW
from sentryfuse.readout import PersonFeatures, Readout
from sentryfuse.statistics import order_statistics
from sentryfuse.types import Modality

Array = NDArray[np.float32]
KEPT = 8  # sets of sensors whose readout is kept ready, for each bundle, beside those that are in use


class ReadoutSession:
    """A readout in an engine; several threads may ask it.

    Args:
        readout: of a bundle.
        modalities: those that are present, in the model's order.
        engine: builds the graph.
        threads: of the engine.
        batch: windows per call; `None` allows any.
        turn: called before the engine is: returns when nothing else is being built.
    """

    def __init__(
        self,
        readout: Readout,
        modalities: Sequence[Modality],
        *,
        engine: Engine,
        threads: int,
        batch: int | None,
        turn: Callable[[], None],
    ) -> None:
        sizes = batch if engine.fused else None  # as sub-networks are written
        known = {m.name: m for m in modalities}
        solved = readout.solve(tuple(known))
        graph = write_readout(readout, solved, modalities, batch=sizes, fused=engine.fused, sorts=False)
        turn()
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


class _Readouts:
    """Those of one bundle: all that somebody uses, and the latest whether they are used or not."""

    def __init__(self) -> None:
        self.there: WeakValueDictionary[tuple[object, ...], ReadoutSession] = WeakValueDictionary()
        self.latest: OrderedDict[tuple[object, ...], ReadoutSession] = OrderedDict()

    def find(self, key: tuple[object, ...]) -> ReadoutSession | None:
        found = self.there.get(key)
        if found is not None and key in self.latest:
            self.latest.move_to_end(key)
        return found

    def keep(self, key: tuple[object, ...], made: ReadoutSession) -> list[ReadoutSession]:
        """One more; those that go, for the caller to free: that takes longer than others may wait."""
        self.there[key] = self.latest[key] = made
        return [self.latest.popitem(last=False)[1] for _ in range(len(self.latest) - KEPT)]


_LOCK = Lock()
_READY: WeakKeyDictionary[Bundle, _Readouts] = WeakKeyDictionary()


def readout_session(
    bundle: Bundle,
    present: Sequence[str],
    *,
    engine: Engine,
    threads: int,
    batch: int | None,
    first: Callable[[], None],
) -> ReadoutSession | None:
    """The readout of a bundle for some sensors, built once for all plans; `None` where it has none.

    Args:
        bundle: whose.
        present: sensors, in the model's order.
        engine: builds the graph.
        threads: of the engine.
        batch: windows per call; `None` allows any.
        first: builds something else; called in any case. Where the readout is to be built as well it is
            solved and written meanwhile, and built after that: an engine builds one graph at a time.

    Raises:
        Exception: what `first` raised.
    """
    key = (tuple(present), type(engine), threads, batch)
    found = None
    if bundle.mixture is not None:
        with _LOCK:
            found = _READY.setdefault(bundle, _Readouts()).find(key)
    if bundle.mixture is None or found is not None:
        first()
        return found
    gone = []
    with Meanwhile(first) as other, _LOCK:
        ready = _READY.setdefault(bundle, _Readouts())
        found = ready.find(key)  # another thread may have built it
        if found is None:
            modalities = [m for m in bundle.layout.modalities if m.name in present]
            found = ReadoutSession(
                bundle.mixture.readout,
                modalities,
                engine=engine,
                threads=threads,
                batch=batch,
                turn=other.wait,
            )
            gone = ready.keep(key, found)
        other.wait()
    del gone
    return found


def forget_readouts(bundle: Bundle) -> None:
    """Have the readouts of a bundle built anew for the next sub-networks; those there are keep theirs."""
    with _LOCK:
        _READY.pop(bundle, None)
