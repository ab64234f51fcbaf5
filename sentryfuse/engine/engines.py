"""What answers: onnxruntime, or OpenVINO where it is installed, behind one small interface."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from sentryfuse.errors import ConfigError
from sentryfuse.register import Register

# From 1.31 on onnxruntime keeps a record of its use in a database under the home folder, to be sent to its
# maker. A device that watches people says nothing of itself unless somebody asks; it has to be said before
# the library is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

ENGINE = "onnxruntime"  # the default
MOST_THREADS = 1024
Array = NDArray[np.float32]
Answer = Callable[[Mapping[str, Array]], Array]


class Engine(Protocol):
    """Builds models; what it builds may be called from several threads at once.

    Attributes:
        name: as given to `--engine`.
        fused: takes onnxruntime's own operators and those of the newest operator set.
    """

    name: str
    fused: bool

    def build(self, model: bytes, *, threads: int, batch: int | None) -> Answer:
        """Make a model ready.

        Args:
            model: of `graph.Writer`.
            threads: of one answer.
            batch: windows per call; `None` = any number.

        Returns:
            Windows `(B, T, C)` by input name, of the right shapes -> logits `(B, K)`, which the caller owns.
        """


_ENGINES: Register[Callable[[], Engine]] = Register(
    "engine", group="sentryfuse.engines", decorator="sf.register_engine"
)
T = TypeVar("T", bound="Callable[[], Engine]")


def check_threads(threads: int) -> None:
    """Refuse a number of threads that no machine has, before an engine tries to start them.

    Raises:
        ConfigError: it is none, or not a whole number.
    """
    if not isinstance(threads, Integral) or isinstance(threads, bool) or not 1 <= threads <= MOST_THREADS:
        raise ConfigError(
            f"threads must be 1 to {MOST_THREADS}, got {threads!r:.40}; give those of this machine"
        )


def register_engine(name: str) -> Callable[[T], T]:
    """Decorate an `Engine` class, or a function that makes one, so that `--engine NAME` finds it.

    It is called without arguments, when it is first asked for; where it cannot work it raises `ConfigError`.
    An installed package makes its own known by an entry point of the group `sentryfuse.engines`.

    Raises:
        ConfigError: the name is taken.
    """

    def register(make: T) -> T:
        _ENGINES.add(name, make)
        return make

    return register


def list_engines() -> list[str]:
    """Names of all registered engines, installed or not; the default first."""
    return _ENGINES.names()


@register_engine(ENGINE)
class OnnxRuntime:
    """onnxruntime on the processor, the default."""

    name = ENGINE
    fused = True

    def build(self, model: bytes, *, threads: int, batch: int | None) -> Answer:
        """Make a model ready; see `Engine`."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # threads that wait by spinning slow down everything else on a small machine
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # planning which value may take the memory of which doubles the time of a build; with an open number
        # of windows it takes minutes for the thousands of steps of forty sensors, and saves no time later
        options.enable_mem_reuse = False
        if batch is not None:
            # the graph is written with all sizes; looking at it doubles the time of a build
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return _Bound(session) if batch is not None else _Free(session)


class _Free:
    """Any number of windows."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self.session = session

    def __call__(self, feed: Mapping[str, Array]) -> Array:
        answer: Array = self.session.run(None, feed)[0]
        return answer


class _Bound:
    """A fixed number of windows: input and output memory is kept, one set for each call under way."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self.session = session
        self._idle = [self._bind()]

    def __call__(self, feed: Mapping[str, Array]) -> Array:
        try:
            bound = self._idle.pop()
        except IndexError:  # as many callers as never before
            bound = self._bind()
        binding, inputs, answer = bound
        for name, x in feed.items():
            np.copyto(inputs[name], x)
        self.session.run_with_iobinding(binding)
        result = answer.copy()
        self._idle.append(bound)
        return result

    def _bind(self) -> tuple[ort.IOBinding, dict[str, Array], Array]:
        binding = self.session.io_binding()
        inputs = {value.name: np.zeros(value.shape, np.float32) for value in self.session.get_inputs()}
        output = self.session.get_outputs()[0]
        answer = np.zeros(output.shape, np.float32)
        for name, x in inputs.items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(x))
        binding.bind_ortvalue_output(output.name, ort.OrtValue.ortvalue_from_numpy(answer))
        return binding, inputs, answer


@register_engine("openvino")
class OpenVino:
    """OpenVINO on the processor; `pip install sentryfuse[openvino]` brings it.

    Answers quickly, but a build takes about a second: for a device that seldom switches.

    Raises:
        ConfigError: it is not installed.
    """

    name = "openvino"
    fused = False

    def __init__(self) -> None:
        try:
            import openvino  # only where it is asked for: it takes a second to load
        except ImportError as error:
            raise ConfigError(
                f"engine openvino cannot be used here ({error}); install it with "
                "`pip install sentryfuse[openvino]`, or use onnxruntime"
            ) from None
        self._core = openvino.Core()

    def build(self, model: bytes, *, threads: int, batch: int | None) -> Answer:
        """Make a model ready; see `Engine`."""
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        return _Requests(self._core.compile_model(self._core.read_model(model), "CPU", options))


class _Requests:
    """A compiled model of OpenVINO; one request answers one call at a time, so idle ones are kept."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._idle: list[Any] = []

    def __call__(self, feed: Mapping[str, Array]) -> Array:
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        request.infer(dict(feed))
        logits: Array = np.array(request.get_output_tensor(0).data, np.float32)
        self._idle.append(request)
        return logits


def find_engine(engine: str | Engine) -> Engine:
    """The engine of a name; one of your own is taken as it is.

    Raises:
        ConfigError: an unknown name, or an engine that is not installed.
    """
    if not isinstance(engine, str):
        return engine
    return _ENGINES.find(engine)()
