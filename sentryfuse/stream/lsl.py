"""Samples from the lab streaming layer; needs the extra `lsl` (pylsl, with liblsl inside)."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from threading import Thread
from typing import Any

import numpy as np

from sentryfuse.errors import ConfigError
from sentryfuse.stream.description import Description, columns_of, units_asked
from sentryfuse.stream.packet import Facts, LiveSource, Packet
from sentryfuse.types import Modality

BUFFER_S = 10  # kept by an inlet until it is read; a sender's older samples go [s]
CHUNK = 1024  # samples of one stream taken at once
LABELS = ("follow", "ignore")
OPTIONS: dict[str, Callable[[str], Any]] = {"timeout_s": float, "source_id": str, "labels": str, "units": str}
RATE_TOLERANCE = 0.01  # share by which a stream's own rate may differ from the model's
_LOOK_S = 0.5  # how often lost or late streams are looked for
_POLL_S = 0.001
_SETTLE_S = 0.8  # so long answers of all streams take, on a usual network
_DESCRIBE_S = 3.0  # a sender has so long to describe its stream
_FORGET_S = 2.0  # a stream not heard of for so long is no longer listed
_log = logging.getLogger("sentryfuse.stream")


class _Opening:
    """A stream that is asked what its channels are; on a thread, since the answer may take long.

    Attributes:
        info: what was found.
        inlet: of it.
        description: `None` where none came.
    """

    def __init__(self, info: Any, inlet: Any) -> None:
        self.info, self.inlet = info, inlet
        self.description: Description | None = None
        self._thread = Thread(target=self._ask, name="sentryfuse-lsl", daemon=True)
        self._thread.start()

    @property
    def is_done(self) -> bool:
        """Whether it has answered, or will not."""
        return not self._thread.is_alive()

    def _ask(self) -> None:
        try:
            self.description = _described(self.inlet.info(timeout=_DESCRIBE_S))
        except (RuntimeError, TimeoutError):  # gone, or silent about it
            return


class LslSource(LiveSource):
    """One inlet for each modality whose stream is there; lost ones are looked for again.

    Inlets do not recover by themselves (`recover=False`): a stream that comes back in silence would
    hide that its sensor was away. What is new under the old name is checked like the first time, and is
    taken only if it is the same stream by its `source_id` (where it has none, by its host): another one of
    that name is somebody else's.

    Args:
        lsl: the module pylsl.
        modalities: stream name -> modality.
        source_ids: take these only; none takes the first of its name, if it is the only one.
        units: what the model was trained in; of `units_asked`.
        by_label: whether the labels of channels decide which is which; otherwise their order does.
    """

    def __init__(
        self,
        lsl: Any,
        modalities: dict[str, Modality],
        source_ids: frozenset[str],
        *,
        units: Mapping[str, str],
        by_label: bool,
    ) -> None:
        self.start_s: float | None = None
        self._lsl, self._modalities = lsl, modalities
        self._resolver = lsl.ContinuousResolver(forget_after=_FORGET_S)
        self._units, self._by_label = units, by_label
        self._opening: dict[str, _Opening] = {}  # by name
        self._columns: dict[str, tuple[int, ...]] = {}  # name -> the model's channels in the stream
        self._inlets: dict[str, Any] = {}
        self._asked = source_ids
        self._owner: dict[str, str] = {}  # name -> identity of the stream taken first
        self._own: dict[str, str] = {}  # name -> uid of the stream taken now
        self._news: list[Facts] = []
        self._told: deque[Facts] = deque(maxlen=100)
        self._gone: set[str] = set()  # streams that were lost, or do not fit; uid of each
        self._looked_s = -math.inf
        self._ended = False
        self._counts = {m.name: {"malformed": 0, "dropped": 0} for m in modalities.values()}

    @property
    def ended(self) -> bool:
        """False until closed: a silent stream may come back."""
        return self._ended

    def connect(self, timeout_s: float) -> None:
        """Wait until every stream is found, at most a while; one is enough to begin.

        Raises:
            ConfigError: no stream of these names, or one that does not fit its modality.
        """
        until = time.monotonic() + timeout_s
        while {i.name() for i in self._resolver.results()}.isdisjoint(
            self._modalities
        ) and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(
            min(_SETTLE_S, max(0.0, until - time.monotonic() - 0.1))
        )  # a second one of a name answers as well
        while len(self._inlets) < len(self._modalities) and time.monotonic() < (
            until + _DESCRIBE_S if self._opening else until
        ):
            misfits = self._look()
            if misfits:
                raise ConfigError(misfits[0])
            time.sleep(0.02)
        if not self._inlets:
            raise ConfigError(
                f"no LSL stream named {', '.join(self._modalities)} answered in {timeout_s:g} s; "
                "start the outlets, or give the prefix of their names as lsl:PREFIX"
            )

    def now_s(self) -> float:
        """Our monotonic clock [s]."""
        return time.monotonic()

    def read(self, timeout_s: float) -> list[Packet]:
        """What has arrived; a stream that was lost is left and looked for."""
        until = time.monotonic() + timeout_s
        while not self._ended:
            is_time = time.monotonic() > self._looked_s + _LOOK_S
            is_time = is_time or any(opening.is_done for opening in self._opening.values())
            if len(self._inlets) < len(self._modalities) and is_time:
                self._looked_s = time.monotonic()
                self._look()
            packets = [packet for name in [*self._inlets] if (packet := self._pull(name)) is not None]
            left = until - time.monotonic()
            if packets or left <= 0:
                return packets
            time.sleep(min(_POLL_S, left))
        return []

    def counters(self) -> dict[str, dict[str, int]]:
        """Modality -> streams "malformed" (of its name, but not fitting); "dropped" is not known with LSL."""
        return {name: dict(counts) for name, counts in self._counts.items()}

    def news(self) -> list[Facts]:
        """Strangers: other streams of a name that is taken."""
        told, self._news = self._news, []
        return told

    def close(self) -> None:
        """Leave all streams."""
        self._ended = True
        self._inlets.clear()
        self._opening.clear()
        self._resolver = None

    def _look(self) -> list[str]:
        """Open an inlet for streams that have none; gives sentences about those that do not fit."""
        misfits = self._open_described()
        found: dict[str, list[Any]] = {}
        for info in self._resolver.results():
            name = info.name()
            if name in self._modalities and info.uid() not in self._gone | set(self._own.values()):
                found.setdefault(name, []).append(info)
        for name, infos in found.items():
            modality = self._modalities[name]
            ours = [info for info in infos if self._is_ours(info)]
            if name in self._inlets or name in self._opening:  # whoever comes while ours is there is not ours
                ours = []
            if name in self._owner and len({info.source_id() or info.uid() for info in ours}) == 1:
                ours = [
                    max(ours, key=lambda info: float(info.created_at()))
                ]  # started again, both still listed
            if len(ours) > 1:
                misfits.append(_ambiguous(name, ours))
                self._tell_stranger(name, misfits[-1])
                continue
            for info in infos:
                if info not in ours:
                    self._gone.add(info.uid())
                    self._counts[modality.name]["malformed"] += 1
                    self._tell_stranger(
                        name, f"another LSL stream {name!r} ({_said(info)}) is there; it is not taken"
                    )
            if not ours:
                continue
            misfit = self._misfit(ours[0], modality)
            if misfit is not None:
                misfits.append(self._refuse(ours[0], misfit))
                continue
            self._owner[name], self._own[name] = _identity(ours[0]), ours[0].uid()
            inlet = self._lsl.StreamInlet(ours[0], max_buflen=BUFFER_S, recover=False)
            self._opening[name] = _Opening(ours[0], inlet)
        return misfits

    def _open_described(self) -> list[str]:
        """Take the streams that have said what their channels are; sentences about those that do not fit."""
        misfits = []
        for name in [name for name, opening in self._opening.items() if opening.is_done]:
            opening, modality = self._opening.pop(name), self._modalities[name]
            stream = opening.description
            if stream is None:  # lost again, or slow: it is asked once more
                self._own.pop(name, None)
                continue
            try:
                self._columns[name] = columns_of(
                    stream,
                    opening.info.channel_count(),
                    modality,
                    units=self._units,
                    by_label=self._by_label,
                )
            except ConfigError as error:
                self._own.pop(name, None)
                misfits.append(self._refuse(opening.info, f"the LSL stream {name!r} {error}"))
                continue
            _log.info("LSL stream %s: channels %s, %s", name, self._columns[name], stream)
            self._inlets[name] = opening.inlet
            self._pull(name)  # the first look opens the stream, in the background
        return misfits

    def _refuse(self, info: Any, misfit: str) -> str:
        """Leave a stream that does not fit, and tell why; gives the same sentence."""
        self._gone.add(info.uid())
        self._counts[self._modalities[info.name()].name]["malformed"] += 1
        self._tell_stranger(info.name(), misfit)
        return misfit

    def _is_ours(self, info: Any) -> bool:
        """Whether a stream is the one asked for, or the one that was there before."""
        owner = self._owner.get(info.name())
        if owner is not None:
            return owner == _identity(info)
        return not self._asked or info.source_id() in self._asked

    def _tell_stranger(self, name: str, reason: str) -> None:
        facts = {"kind": "stranger", "sensor": self._modalities[name].name, "reason": reason}
        if facts not in self._told:
            self._told.append(facts)
            self._news.append(facts)

    def _misfit(self, info: Any, modality: Modality) -> str | None:
        """What is wrong with a stream, if anything."""
        rate = info.nominal_srate()
        if info.channel_format() == self._lsl.cf_string:
            return f"the LSL stream {info.name()!r} holds text; send numbers"
        # a rate of 0 means irregular: the samples' own times decide
        if rate and not math.isclose(rate, modality.rate_hz, rel_tol=RATE_TOLERANCE):
            return (
                f"the LSL stream {info.name()!r} has {rate:g} Hz, the model knows {modality.name} "
                f"at {modality.rate_hz:g} Hz; resample it"
            )
        return None

    def _pull(self, name: str) -> Packet | None:
        inlet, modality = self._inlets[name], self._modalities[name]
        try:
            values, times = inlet.pull_chunk(timeout=0.0, max_samples=CHUNK, as_numpy=True)
        except RuntimeError:  # lost: LostError where the stream ended, its base where the link broke
            del self._inlets[name]
            self._own.pop(name, None)
            return None
        if not len(times):
            return None
        with np.errstate(over="ignore"):
            samples = np.array(values, np.float32)[:, self._columns[name]]
        return Packet(modality.name, samples, np.array(times, np.float64), time.monotonic())


def _described(info: Any) -> Description:
    """Labels and units of the channels, as XDF writes them: `desc/channels/channel/label`."""
    labels: list[str] = []
    units: list[str] = []
    channel = info.desc().child("channels").child("channel")
    while not channel.empty() and len(labels) < info.channel_count():
        labels.append(str(channel.child_value("label")).strip())
        units.append(str(channel.child_value("unit")).strip())
        channel = channel.next_sibling("channel")
    return Description(tuple(labels) if all(labels) else (), tuple(units))


def _identity(info: Any) -> str:
    """Who sends a stream, the same after it has been started again."""
    return str(info.source_id() or f"host {info.hostname()}")


def _said(info: Any) -> str:
    source_id = "".join(c if c.isprintable() else "?" for c in str(info.source_id()))[:80]
    return f"source_id {source_id or 'none'} on {str(info.hostname())[:80]}"


def _ambiguous(name: str, infos: Sequence[Any]) -> str:
    return (
        f"there are {len(infos)} LSL streams named {name!r} ({'; '.join(sorted(map(_said, infos)))}); "
        "say which with lsl:PREFIX?source_id=ID,ID or give them different names"
    )


def open_lsl(
    prefix: str,
    modalities: Sequence[Modality],
    *,
    timeout_s: float = 5.0,
    source_id: str = "",
    labels: str = "follow",
    units: str = "",
) -> LslSource:
    """Find the streams named like the modalities.

    Args:
        prefix: put before each name.
        modalities: the sensors to look for; those that are not there now may come later.
        timeout_s: longest wait for all of them [s].
        source_id: identities of the streams to take, separated by commas; empty takes what is there, where
            each name is there once.
        labels: "follow" finds the model's channels by the labels in a stream's description, where it has
            some; "ignore" takes them in their order.
        units: what the model was trained in, such as `acc:m/s^2,gyro:deg/s`; a stream that says another one
            is refused.

    Raises:
        ConfigError: the extra is missing or cannot be loaded, no stream is found, several of one name, or a
            stream of other channels, rate or units.
    """
    try:
        import pylsl
    except ModuleNotFoundError as error:
        raise ConfigError("lsl: needs pylsl; install it with `pip install 'sentryfuse[lsl]'`") from error
    except (RuntimeError, OSError) as error:  # pylsl is there, its library is not
        raise ConfigError(
            f"lsl: pylsl found no liblsl ({str(error).splitlines()[0]}); install liblsl"
        ) from error
    if not timeout_s > 0:
        raise ConfigError(f"timeout_s {timeout_s} must be a positive number of seconds")
    if labels not in LABELS:
        raise ConfigError(f"labels={labels} is unknown; choose one of {', '.join(LABELS)}")
    asked = frozenset(name.strip() for name in source_id.split(",") if name.strip())
    source = LslSource(
        pylsl,
        {prefix + m.name: m for m in modalities},
        asked,
        units=units_asked(units, modalities),
        by_label=labels == "follow",
    )
    try:
        source.connect(timeout_s)
    except BaseException:
        source.close()
        raise
    return source
