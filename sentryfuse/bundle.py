"""The one file a device needs, read and verified before anything is built from it. Torch-free.

A safetensors file. Its metadata holds a manifest (JSON, with the digest of every tensor but the last);
its tensors are

    weights.<name>   the big model, float32
    gate.<name>      the gate, float32
    graph.<i>        ONNX graphs of the steps, as bytes, with no width baked in
    manifest.sha256  digest of the manifest's text, 32 bytes

No pickle, no paths, no external data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import ModelProto
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from sentryfuse.errors import BundleError
from sentryfuse.files import write_atomically
from sentryfuse.gate.predict import NumpyGate, levelled
from sentryfuse.layout import Layout
from sentryfuse.profile import DeviceProfile
from sentryfuse.pruning.plan import plan_layout
from sentryfuse.types import Budget, Plan, check_present

FORMAT = 1
KINDS = ("weights", "gate", "graph")
SEAL = "manifest.sha256"
MAX_BYTES = 4 * 10**9
# steps with a graph, weights of the steps that become constants, and inputs that depend on the plan alone
GRAPH_OPS = ("embed", "layer", "head")
CONSTANT_WEIGHTS = {
    "bank": ("base", "given"),
    "codes": ("hidden.weight", "hidden.bias", "budget.weight", "budget.bias", "temporal", "modality"),
}
SIZES = ("sampled", "kept", "slots", "places", "shares")  # of sparse parts, as the graphs name them
MADE_ON_DEVICE = (".x", ".source", ".group_of", ".seats", *(f".pick.{size}" for size in SIZES))
Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Bundle:
    """A verified bundle.

    Attributes:
        layout: what the model computes.
        classes: names of the labels.
        normalise: "train" (inside the graphs) or "subject" (each person's own statistics first).
        subject_floor: modality -> smallest deviation used per subject, `(C,)`.
        weights: all weights of the big model by name.
        gate: presence -> importance.
        graphs: template key -> ONNX graph.
        step_graphs: step name -> {"dense": key, "sparse": key}.
        about: facts for people: backbone, preset, training.
        digest: sha256 over the whole content.
    """

    layout: Layout
    classes: tuple[str, ...]
    normalise: str
    subject_floor: Mapping[str, Any]
    weights: Mapping[str, Array]
    gate: NumpyGate
    graphs: Mapping[str, ModelProto]
    step_graphs: Mapping[str, Mapping[str, str]]
    about: Mapping[str, Any]
    digest: str

    @property
    def names(self) -> tuple[str, ...]:
        """Modality names, in order."""
        return self.layout.names

    def plan(
        self,
        present: Iterable[str] | None = None,
        budget: Budget | None = None,
        profile: DeviceProfile | None = None,
    ) -> Plan:
        """Decide which units stay for these sensors and this budget; see `plan_layout`."""
        names = check_present(present, self.names)
        return plan_layout(
            self.layout,
            levelled(self.gate.importance(names)),
            present=names,
            budget=budget or Budget(ratio=0.0),
            scorer="gate",
            profile=profile,
        )


def load_bundle(path: str | Path) -> Bundle:
    """Read a bundle and verify it.

    Args:
        path: a file written by `sentryfuse export`.

    Returns:
        The bundle; nothing is kept open.

    Raises:
        BundleError: not a bundle, damaged, of another format version, or not self-consistent.
    """
    path = Path(path)
    if not path.is_file():
        raise BundleError(f"{path} does not exist; make it with `sentryfuse export RUN --out {path}`")
    if path.stat().st_size > MAX_BYTES:
        raise BundleError(f"{path} has {path.stat().st_size} bytes, more than the limit {MAX_BYTES}")
    try:
        with safe_open(path, framework="np") as file:
            text = (file.metadata() or {}).get("manifest", "null")
            manifest = json.loads(text)
            _check_version(path, manifest)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"{path} cannot be read as a bundle ({error}); copy or export it again") from None
    digest = hashlib.sha256(text.encode())
    if tensors.pop(SEAL, np.empty(0)).tobytes() != digest.digest():
        raise BundleError(f"{path} is damaged: its manifest has another digest; copy it again")
    _check_digests(path, manifest, tensors)
    try:
        bundle = _build(manifest, tensors, digest.hexdigest())
        _check_complete(path, bundle)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, DecodeError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"{path} has an incomplete manifest ({error!r}); export it again") from None
    return bundle


def save_bundle(path: str | Path, *, manifest: Mapping[str, Any], tensors: Mapping[str, Array]) -> None:
    """Write a bundle under a temporary name and rename it.

    Args:
        path: the file to write.
        manifest: everything but `format` and `digests`.
        tensors: by their names in the file.
    """
    tensors = {name: np.ascontiguousarray(t) for name, t in sorted(tensors.items())}
    full = {**manifest, "format": FORMAT, "digests": {n: _digest(t) for n, t in tensors.items()}}
    text = json.dumps(full, sort_keys=True, allow_nan=False)
    seal = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)
    with write_atomically(path) as partial:
        save_file(tensors | {SEAL: seal}, partial, metadata={"manifest": text})


def _check_version(path: Path, manifest: Any) -> None:
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise BundleError(f"{path} is a safetensors file without a sentryfuse manifest; export it again")
    if manifest["format"] != FORMAT:
        raise BundleError(
            f"{path} has bundle format {manifest['format']!r}, this version reads {FORMAT}; "
            "use the sentryfuse that wrote it, or export again"
        )


def _check_digests(path: Path, manifest: Mapping[str, Any], tensors: Mapping[str, Array]) -> None:
    digests = manifest.get("digests")
    if not isinstance(digests, dict) or digests.keys() != tensors.keys():
        raise BundleError(f"{path} does not hold the tensors its manifest lists; export it again")
    for name, tensor in tensors.items():
        if _digest(tensor) != digests[name]:
            raise BundleError(f"{path} is damaged: tensor {name} has another digest; copy it again")
        if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
            raise BundleError(f"{path} holds weights that are not finite in {name}; train again")


def _check_complete(path: Path, bundle: Bundle) -> None:
    """Refuse a bundle that could not answer: every graph has its weights, every unit its score."""
    for step in bundle.layout.steps:
        needed = list(CONSTANT_WEIGHTS.get(step.op, ()))
        for key in bundle.step_graphs[step.name].values() if step.op in GRAPH_OPS else ():
            needed += [value.name for value in bundle.graphs[key].graph.input]
        for leaf in needed:
            name = f"{step.name}.{leaf}"
            if name not in bundle.weights and not name.endswith(MADE_ON_DEVICE):
                raise BundleError(f"{path} lacks the tensor weights.{name}; export it again")
        for block in step.blocks:
            own = [t.size for n, t in bundle.weights.items() if n.startswith(f"{block.name}.")]
            d_model = bundle.layout.d_model
            # the bias that leaves a block has no unit, unless each expert has its own
            shared = 0 if block.active else d_model
            if sum(own) != block.params(d_model) + shared:
                raise BundleError(
                    f"{path} does not hold {block.units} units of {block.name}; export it again"
                )
    for name, scores in bundle.gate.importance(bundle.names).items():
        if len(scores) != bundle.layout.blocks[name].units:
            raise BundleError(f"{path} has a gate for another number of units in {name}; export it again")


def _build(manifest: Mapping[str, Any], tensors: Mapping[str, Array], digest: str) -> Bundle:
    layout = Layout.from_json(manifest["layout"])
    parts: dict[str, dict[str, Array]] = {kind: {} for kind in KINDS}
    for name, tensor in tensors.items():
        kind, rest = name.split(".", 1)
        parts[kind][rest] = tensor
    graphs = {
        key: ModelProto.FromString(parts["graph"][str(i)].tobytes())
        for i, key in enumerate(manifest["graphs"])
    }
    return Bundle(
        layout=layout,
        classes=tuple(manifest["classes"]),
        normalise=manifest["normalise"],
        subject_floor=manifest["subject_floor"],
        weights=parts["weights"],
        gate=NumpyGate(layout, parts["gate"]),
        graphs=graphs,
        step_graphs=manifest["step_graphs"],
        about=manifest["about"],
        digest=digest,
    )


def _digest(tensor: Array) -> str:
    head = f"{tensor.dtype} {tensor.shape} ".encode()
    return hashlib.sha256(head + np.ascontiguousarray(tensor).tobytes()).hexdigest()
