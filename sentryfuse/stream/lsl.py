"""Samples from the lab streaming layer; needs the extra `lsl` (pylsl, with liblsl inside)."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from sentryfuse.errors import ConfigError
from sentryfuse.stream.packet import Packet, Source
from sentryfuse.types import Modality

BUFFER_S = 10  # kept by an inlet until it is read; a sender's older samples go [s]
CHUNK = 1024  # samples of one stream taken at once
RATE_TOLERANCE = 0.01  # share by which a stream's own rate may differ from the model's
_LOOK_S = 0.5  # how often lost or late streams are looked for
_POLL_S = 0.001
_FORGET_S = 2.0  # a stream not heard of for so long is no longer listed


class LslSource(Source):
    """One inlet for each modality whose stream is there; lost ones are looked for again.

    Inlets do not recover by themselves (`recover=False`): a stream that comes back in silence would
    hide that its sensor was away. What is new under the old name is checked like the first time.

    Args:
        lsl: the module pylsl.
        modalities: stream name -> modality.
    """

    def __init__(self, lsl: Any, modalities: dict[str, Modality]) -> None:
        self.start_s: float | None = None
        self._lsl, self._modalities = lsl, modalities
        self._resolver = lsl.ContinuousResolver(forget_after=_FORGET_S)
        self._inlets: dict[str, Any] = {}
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
        while len(self._inlets) < len(self._modalities) and time.monotonic() < until:
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
            if len(self._inlets) < len(self._modalities) and time.monotonic() > self._looked_s + _LOOK_S:
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

    def close(self) -> None:
        """Leave all streams."""
        self._ended = True
        self._inlets.clear()
        self._resolver = None

    def _look(self) -> list[str]:
        """Open an inlet for streams that have none; gives sentences about those that do not fit."""
        misfits = []
        for info in self._resolver.results():
            name, uid = info.name(), info.uid()
            if name not in self._modalities or name in self._inlets or uid in self._gone:
                continue
            modality = self._modalities[name]
            misfit = self._misfit(info, modality)
            if misfit is not None:
                self._gone.add(uid)
                self._counts[modality.name]["malformed"] += 1
                misfits.append(misfit)
                continue
            self._inlets[name] = self._lsl.StreamInlet(info, max_buflen=BUFFER_S, recover=False)
            self._pull(name)  # the first look opens the stream, in the background
        return misfits

    def _misfit(self, info: Any, modality: Modality) -> str | None:
        """What is wrong with a stream, if anything."""
        count, rate = info.channel_count(), info.nominal_srate()
        if info.channel_format() == self._lsl.cf_string:
            return f"the LSL stream {info.name()!r} holds text; send numbers"
        if count != modality.n_channels:
            return (
                f"the LSL stream {info.name()!r} has {count} channels, the model knows "
                f"{modality.n_channels} of {modality.name}; send the same channels"
            )
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
            return None
        if not len(times):
            return None
        with np.errstate(over="ignore"):
            samples = np.array(values, np.float32)
        return Packet(modality.name, samples, np.array(times, np.float64), time.monotonic())


def open_lsl(prefix: str, modalities: Sequence[Modality], *, timeout_s: float = 5.0) -> LslSource:
    """Find the streams named like the modalities.

    Args:
        prefix: put before each name.
        modalities: the sensors to look for; those that are not there now may come later.
        timeout_s: longest wait for all of them [s].

    Raises:
        ConfigError: the extra is missing or cannot be loaded, no stream is found, or a stream of another
            number of channels or rate.
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
    source = LslSource(pylsl, {prefix + m.name: m for m in modalities})
    try:
        source.connect(timeout_s)
    except BaseException:
        source.close()
        raise
    return source
