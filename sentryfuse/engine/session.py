"""A sub-network ready to answer."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.bundle import Bundle
from sentryfuse.engine.beside import readout_session
from sentryfuse.engine.engines import ENGINE, Answer, Engine, check_threads, find_engine
from sentryfuse.engine.parts import split
from sentryfuse.engine.selfcheck import Probe, differing
from sentryfuse.errors import BundleError, ConfigError, SentryFuseError
from sentryfuse.planning.layout import WINDOW
from sentryfuse.readout import PersonFeatures
from sentryfuse.types import Plan

Array = NDArray[np.float32]


@dataclass(frozen=True)
class BuildTimes:
    """How long it took to make a session.

    Attributes:
        slice_ms: slicing weights and putting the graph together [ms].
        build_ms: building the engine's session [ms].
    """

    slice_ms: float
    build_ms: float


class Session:
    """One sub-network in an engine; encoders of absent sensors are not in it. Several threads may ask it.

    Args:
        bundle: what to cut from.
        plan: which units stay, for which sensors.
        threads: of the engine.
        batch: windows per call; a fixed number is faster, `None` allows any.
        engine: a name of `list_engines`, or one of your own.
        apart: sensors whose own steps run apart, so that their tokens can be used again; see `run`.
        probe: a window whose answer is remembered, so that `differs` finds memory that has changed.

    Attributes:
        apart: those of them that the plan has.
        built_s, right_s: when it was built, and last asked and found right, on `time.monotonic` [s].
        probe_s: how long it takes to answer the probe [s].

    Raises:
        ConfigError: the plan belongs to another model, or the engine is unknown or not installed.
        BundleError: the engine refuses the graph.
    """

    def __init__(
        self,
        bundle: Bundle,
        plan: Plan,
        *,
        threads: int = 1,
        batch: int | None = None,
        engine: str | Engine = ENGINE,
        apart: Collection[str] = (),
        probe: Probe | None = None,
    ) -> None:
        self.bundle, self.plan, self.batch = bundle, plan, batch
        check_threads(threads)
        self._settings = (threads, batch, engine, tuple(apart))
        self.engine = find_engine(engine)
        self._alone = plan.readout_alone and bundle.mixture is not None
        if (
            plan.readout_alone
            and not self._alone
            and any(s.blocks for s in bundle.layout.route(plan.present))
        ):
            raise ConfigError(
                "the plan lets a readout answer alone, and this bundle has none; plan this bundle again"
            )
        self._parts, rest = split(bundle.layout, plan.present, () if self._alone else apart)
        self.apart = tuple(self._parts)
        # OpenVINO 2026.4 ends the process on some graphs when it knows all sizes and has one thread
        sizes = batch if self.engine.fused else None
        started = time.perf_counter()
        try:
            models = [
                bundle.writer.write(plan, part, batch=sizes, fused=self.engine.fused)
                for part in (() if self._alone else (*self._parts.values(), rest))
            ]
            sliced = time.perf_counter()
            answers: list[Answer] = []

            def build() -> None:
                answers.extend(self.engine.build(m, threads=threads, batch=batch) for m in models)

            self._readout = readout_session(
                bundle, plan.present, engine=self.engine, threads=threads, batch=batch, first=build
            )
        except (SentryFuseError, MemoryError):
            raise
        except Exception as error:  # of the engine's own kinds
            raise BundleError(
                f"{self.engine.name} refuses a sub-network of this bundle ({' '.join(str(error).split())}); "
                "export the model again"
            ) from error
        self._encoders = dict(zip(self._parts, answers, strict=False))
        self._answer = answers[-1] if answers else _nothing
        built = time.perf_counter()
        self.times = BuildTimes(1e3 * (sliced - started), 1e3 * (built - sliced))
        self.graph_bytes = sum(map(len, models))
        self._shapes = {
            m.name: (batch, m.length, m.n_channels)
            for m in bundle.layout.modalities
            if m.name in plan.present
        }
        self._exactly = threads == 1 and self.engine.name == ENGINE
        self._probe, self.probe_s = probe, 0.0
        self.built_s = self.right_s = time.monotonic()
        self._said = None if probe is None else self._say(probe)

    def __reduce__(self) -> tuple[Any, ...]:
        """To another process goes what it is made of, without a probe; it is built again there."""
        return _again, (self.bundle, self.plan, *self._settings)

    def run(
        self,
        windows: Mapping[str, Array],
        tokens: MutableMapping[str, Array] | None = None,
        person: PersonFeatures | None = None,
        raw: Mapping[str, Array] | None = None,
    ) -> Array:
        """Answer windows.

        Args:
            windows: modality name -> raw windows `(B, T, C)`; those of absent sensors are never read.
            tokens: of sensors that run apart, as they were left by a call of this session: those that are
                here are used in place of the windows, those that are not are made and put here. Take out
                the ones whose windows have changed. `None` makes all of them.
            person: what is known of the person so far, for a readout that standardises by person; learns
                from these windows once they are answered. `None` = nothing, as of a person nobody has seen.
            raw: the windows in physical units, where `windows` are standardised by person already;
                `None` = they are `windows`.

        Returns:
            Probabilities, `(B, n_classes)`; or numbers in their unit, or probabilities of labels.

        Raises:
            ConfigError: a present sensor's window is missing or has another shape.
        """
        made = None if self._alone else self.transformer(windows, tokens)
        if self._readout is None:
            assert made is not None, "a plan without layers is of a bundle with a readout"
            return made
        return self._mixed(self._said_by_readout(windows, person, raw), made)

    def transformer(
        self, windows: Mapping[str, Array], tokens: MutableMapping[str, Array] | None = None
    ) -> Array:
        """What the transformer alone answers; as `run`."""
        return self.bundle.target.answers(self._logits(windows, tokens))

    def _logits(
        self, windows: Mapping[str, Array], tokens: MutableMapping[str, Array] | None = None
    ) -> Array:
        feed: dict[str, Any] = {f"{WINDOW}{name}": self._window(windows, name) for name in self.plan.present}
        if self.batch is None and len({len(x) for x in feed.values()}) > 1:
            raise ConfigError(
                "every sensor must bring as many windows as the others, got "
                f"{', '.join(f'{len(windows[name])} of {name}' for name in self.plan.present)}"
            )
        if self._parts:
            self._encode(feed, {} if tokens is None else tokens)
        return self._answer(feed)

    def _said_by_readout(
        self,
        windows: Mapping[str, Array],
        person: PersonFeatures | None,
        raw: Mapping[str, Array] | None,
    ) -> Array:
        mixture = self.bundle.mixture
        assert mixture is not None
        assert self._readout is not None
        source = windows if raw is None or mixture.readout.own_signals else raw
        return self._readout({name: self._window(source, name) for name in self.plan.present}, person)

    def _mixed(self, log_readout: Array, made: Array | None) -> Array:
        """One answer of both."""
        assert self.bundle.mixture is not None
        return self.bundle.mixture.answer(log_readout, made, len(self.plan.present))

    def differs(self) -> str:
        """Ask about the probe again; takes as long as an answer.

        onnxruntime with one thread answers the same window with the same bits, as long as nothing of it has
        changed in memory. With several threads, and in other engines, 1e-4 of a number and 1e-5 are allowed.

        Returns:
            What says something else than when it was built: `transformer`, `readout` or `answer` (of both
            together); empty where nothing does, or without a probe.
        """
        if self._probe is None or self._said is None:
            return ""
        began_s, now = time.monotonic(), self._say(self._probe)
        if now is None:
            return "answer"
        part = differing(self._said, now, exactly=self._exactly)
        if not part:
            self.right_s = began_s
        return part

    def _say(self, probe: Probe) -> dict[str, Array] | None:
        """What every part says of the probe; `None` where one fails, which the windows will show as well."""
        windows, raw = (
            None if given is None else {name: x.repeat(self.batch or 1, 0) for name, x in given.items()}
            for given in probe
        )
        assert windows is not None
        began, found = time.perf_counter(), {}
        made = None
        try:
            if not self._alone:
                found["transformer"] = self._logits(windows)
                made = self.bundle.target.answers(found["transformer"])
            if self._readout is not None:
                found["readout"] = self._said_by_readout(windows, None, raw)
                made = self._mixed(found["readout"], made)
        except Exception:  # of the engine's own kinds
            return None
        self.probe_s = time.perf_counter() - began
        return found if made is None else {**found, "answer": made}

    def _window(self, windows: Mapping[str, Array], name: str) -> Array:
        """The window of a present sensor as an engine takes it."""
        x, shape = windows.get(name), self._shapes[name]
        if type(x) is not np.ndarray or x.shape != shape or x.dtype != np.float32:
            x = self._checked(name, x, shape)
        return x

    def _encode(self, feed: dict[str, Any], tokens: MutableMapping[str, Array]) -> None:
        """Tokens in place of the windows of sensors that run apart."""
        for name, part in self._parts.items():
            window = feed.pop(f"window.{name}")
            if name not in tokens:
                tokens[name] = self._encoders[name]({f"window.{name}": window})
            feed[part.writes] = tokens[name]

    def _checked(self, name: str, given: Any, shape: tuple[int | None, ...]) -> Array:
        """A window that is not exactly what an engine takes, as it takes it."""
        x = None if given is None else np.asarray(given, np.float32)
        if x is None or x.shape[1:] != shape[1:] or not x.size or self.batch not in (None, len(x)):
            raise ConfigError(
                f"sensor {name} is present and needs windows of shape ({self.batch or 'B'}, "
                f"{shape[1]}, {shape[2]}), got {'nothing' if x is None else x.shape}; give that, "
                f"or leave {name} out of present"
            )
        return x


def _again(
    bundle: Bundle,
    plan: Plan,
    threads: int,
    batch: int | None,
    engine: str | Engine,
    apart: Collection[str],
) -> Session:
    return Session(bundle, plan, threads=threads, batch=batch, engine=engine, apart=apart)


def _nothing(feed: Mapping[str, Array]) -> Array:
    raise ConfigError("this sub-network has no layer; ask `run`, which lets the readout answer alone")
