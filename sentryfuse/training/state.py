"""The state from which a killed training resumes after its last epoch, in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from sentryfuse.data import Windows
from sentryfuse.errors import CheckpointError
from sentryfuse.files import write_atomically
from sentryfuse.model.pretrained import SentryModel
from sentryfuse.training.distributed import ProcessGroup
from sentryfuse.training.settings import TrainSettings


def identity_of(model: SentryModel, windows: Windows, settings: TrainSettings) -> dict[str, Any]:
    """Settings, the fresh model and the recording: equal for equal trainings."""
    return {
        "settings": asdict(settings),
        "model": model.config.to_json(),
        "data": [windows.name, len(windows), windows.digest],
    }


class TrainState:
    """Saves and restores the parts of a training.

    Args:
        path: the file; `None` keeps nothing.
        identity: settings and model; a file with another identity is refused.
        group: the processes that train together; process 0 alone reads and writes the file.
    """

    def __init__(self, path: Path | None, identity: Mapping[str, Any], group: ProcessGroup) -> None:
        self.path = path if group.leads else None
        self.group = group
        self.identity = json.loads(json.dumps(identity))
        self.best: dict[str, Tensor] | None = None

    def save(
        self, parts: Mapping[str, Any], history: list[dict[str, Any]], best: Mapping[str, Tensor]
    ) -> None:
        """Write everything under a temporary name, then rename."""
        if self.path is None:
            return
        tensors = {f"model.{name}": t for name, t in parts["model"].tensors().items()}
        tensors |= {f"best.{name}": t for name, t in best.items()}
        tensors |= {f"average.{name}": t for name, t in parts["average"].tensors().items()}
        tensors |= {f"memory.{name}": t for name, t in parts["memory"].tensors().items()}
        for i, state in parts["optimizer"].state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{key}": value for key, value in state.items()}
        tensors["torch_rng"] = torch.get_rng_state()
        about = {
            "identity": self.identity,
            "history": history,
            "rng": parts["rng"].bit_generator.state,
            "step": parts["run"].step,
            "scale": parts["scale"].mean,
        }
        unique = {name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()}
        with write_atomically(self.path) as partial:
            save_file(unique, partial, metadata={"state": json.dumps(about)})

    def resume(self, parts: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Put back what was saved; returns the history, empty when there is nothing to resume.

        Raises:
            CheckpointError: a damaged file, or one of another training.
        """
        content = b""
        if self.path is not None and self.path.is_file():
            content = self.path.read_bytes() or b"empty"
        content = self.group.broadcast(content)
        if not content:
            return []
        name = self.path or "the file of the leading process"
        try:
            tensors = load(content)
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            about = json.loads(header.get("__metadata__", {}).get("state", "null"))
        except (SafetensorError, ValueError) as error:
            raise CheckpointError(f"{name} cannot be resumed ({error}); delete it") from None
        if not about or about["identity"] != self.identity:
            raise CheckpointError(
                f"{name} belongs to a training with other settings or data; finish it with those "
                "settings, or choose another output folder"
            )
        parts["model"].load_tensors(_under(tensors, "model."))
        parts["average"].load_tensors(_under(tensors, "average."))
        parts["run"].average.n_averaged.fill_(about["step"])
        parts["memory"].load_tensors(_under(tensors, "memory."))
        self.best = _under(tensors, "best.")
        optimizer = parts["optimizer"]
        state = optimizer.state_dict()
        for name, value in _under(tensors, "optimizer.").items():
            i, key = name.split(".", 1)
            state["state"].setdefault(int(i), {})[key] = value
        optimizer.load_state_dict(state)
        torch.set_rng_state(tensors["torch_rng"])
        parts["rng"].bit_generator.state = about["rng"]
        parts["run"].step = about["step"]
        parts["scale"].mean = about["scale"]
        history: list[dict[str, Any]] = about["history"]
        return history


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
