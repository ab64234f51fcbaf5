"""A sub-network ready to answer, in onnxruntime."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from sentryfuse.bundle import Bundle
from sentryfuse.errors import ConfigError
from sentryfuse.run.assemble import assemble
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
    """One sub-network in onnxruntime; encoders of absent sensors are not in it.

    Args:
        bundle: what to cut from.
        plan: which units stay, for which sensors.
        threads: of the engine.
        batch: windows per call; a fixed number is faster, `None` allows any.
    """

    def __init__(self, bundle: Bundle, plan: Plan, *, threads: int = 1, batch: int | None = None) -> None:
        self.bundle, self.plan, self.batch = bundle, plan, batch
        started = time.perf_counter()
        graph = assemble(bundle, plan, batch=batch).SerializeToString()
        sliced = time.perf_counter()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # threads that wait by spinning slow down everything else on a small machine
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._engine = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        built = time.perf_counter()
        self.times = BuildTimes(1e3 * (sliced - started), 1e3 * (built - sliced))
        self.graph_bytes = len(graph)
        self._shapes = {
            m.name: (m.length, m.n_channels) for m in bundle.layout.modalities if m.name in plan.present
        }

    def run(self, windows: Mapping[str, Array]) -> Array:
        """Answer windows.

        Args:
            windows: modality name -> raw windows `(B, T, C)`; those of absent sensors are never read.

        Returns:
            Probabilities, `(B, n_classes)`.

        Raises:
            ConfigError: a present sensor's window is missing or has another shape.
        """
        feed: dict[str, Any] = {}
        for name, shape in self._shapes.items():
            x = np.asarray(windows[name], np.float32) if name in windows else None
            if x is None or x.shape[1:] != shape or not x.size or self.batch not in (None, len(x)):
                raise ConfigError(
                    f"sensor {name} is present and needs windows of shape ({self.batch or 'B'}, "
                    f"{shape[0]}, {shape[1]}), got {'nothing' if x is None else x.shape}; give that, "
                    f"or leave {name} out of present"
                )
            feed[f"window.{name}"] = x
        if len({len(x) for x in feed.values()}) > 1:
            raise ConfigError(
                "every sensor must bring as many windows as the others, got "
                f"{', '.join(f'{len(windows[name])} of {name}' for name in self._shapes)}"
            )
        logits = self._engine.run(["logits"], feed)[0]
        return softmax(logits)


def softmax(logits: Array) -> Array:
    """Probabilities from logits, `(B, K)` -> `(B, K)`."""
    e = np.exp(logits - logits.max(1, keepdims=True))
    result: Array = e / e.sum(1, keepdims=True)
    return result
