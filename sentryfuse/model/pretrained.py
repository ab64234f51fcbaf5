"""The one place where backbone and gate are put together, saved and loaded; needs torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sentryfuse.errors import CheckpointError, ConfigError, DataError
from sentryfuse.files import folder_atomically, read_json, write_json, write_text
from sentryfuse.gate.gate import SentryGate
from sentryfuse.model import Selection, backbone_type
from sentryfuse.model.card import model_card
from sentryfuse.model.config import ModelConfig
from sentryfuse.model.encoder import Encoder, EncoderTokens, TracedEncoder
from sentryfuse.planning.layout import AttentionRule, Layout
from sentryfuse.readout import Mixture
from sentryfuse.target import CLASSES, Target
from sentryfuse.types import Modality


class SentryModel(nn.Module):
    """A backbone and the gate that knows which of its units matter.

    Args:
        config: what to build; weights start random, normalisation at mean 0 and deviation 1.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        made = backbone_type(config.backbone)
        self.backbone = made(
            config.modalities,
            len(config.classes),
            shape=made.shape_type(**config.shape),
            rule=config.attention,
            widths=config.widths,
            slots=config.slots,
        )
        for name, encoder in config.encoders.items():
            self._set_encoder(name, encoder)
        self.gate = SentryGate(self.backbone.layout)
        self.mixture: Mixture | None = None

    @property
    def layout(self) -> Layout:
        """The steps of the backbone."""
        return self.backbone.layout

    @property
    def names(self) -> tuple[str, ...]:
        """Modality names, in order."""
        return self.layout.names

    @property
    def device(self) -> torch.device:
        """Where the weights are, and where windows must be."""
        return self.gate.hidden.weight.device

    def forward(
        self,
        windows: Mapping[str, Tensor],
        present: Iterable[str] | None = None,
        *,
        select: Selection | None = None,
    ) -> Tensor:
        """Logits `(B, n_classes)`; see `Backbone.forward`."""
        return self.backbone(windows, present, select=select)

    def set_statistics(self, mean: Mapping[str, ArrayLike], std: Mapping[str, ArrayLike]) -> None:
        """Put training statistics into the embeddings, modality name -> `(C,)` each."""
        for name in self.names:
            at = self._statistics_of(name)
            at["mean"].copy_(torch.from_numpy(np.asarray(mean[name], np.float32)))
            at["std"].copy_(torch.from_numpy(np.asarray(std[name], np.float32)))

    def set_features(
        self, within: Mapping[str, ArrayLike], windows: Mapping[str, NDArray[np.float32]]
    ) -> None:
        """Standardise what the embeddings make of windows; `set_statistics` comes first.

        Args:
            within: modality -> deviation inside training windows, `(C,)`, physical units.
            windows: modality -> training windows in which it was present, `(n, T, C)`.
        """
        for name in self.names:
            at = self.backbone.embedding_of(name)
            measure = getattr(at, "measure", None)
            if measure is not None:
                inside = np.asarray(within[name], np.float32)
                measure(torch.from_numpy(inside).to(self.device), torch.from_numpy(windows[name]))

    def statistics(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Training mean and deviation of a modality, `(C,)` each."""
        at = self._statistics_of(name)
        return at["mean"].cpu().numpy(), at["std"].cpu().numpy()

    def _statistics_of(self, name: str) -> dict[str, Tensor]:
        buffers = self.backbone.embedding_of(name).named_buffers()
        return {key.rsplit(".", 1)[-1]: buffer for key, buffer in buffers}

    def _set_encoder(self, name: str, encoder: TracedEncoder) -> None:
        modality = next(m for m in self.config.modalities if m.name == name)
        self.backbone.set_embedding(
            name, lambda path, d_model: EncoderTokens(path, modality, d_model, encoder=encoder)
        )

    def with_encoders(self, encoders: Mapping[str, nn.Module | Encoder]) -> SentryModel:
        """Let modules of somebody's own make the tokens of their sensors; returns the model itself.

        Args:
            encoders: modality -> its module, which is traced and copied; see `sentryfuse.model.tracing`.

        Raises:
            ConfigError: no such sensor, or a module that cannot be written on a device.
        """
        from sentryfuse.model.tracing import trace

        modalities = {m.name: m for m in self.config.modalities}
        for name, given in encoders.items():
            if name not in modalities:
                raise ConfigError(
                    f"there is an encoder for {name}, and the sensors are {', '.join(modalities)}"
                )
            encoder, module = trace(given, modalities[name], self.layout.d_model)
            self.config = replace(self.config, encoders={**self.config.encoders, name: encoder})
            self._set_encoder(name, encoder)
            tokens = cast(EncoderTokens, self.backbone.embedding_of(name))
            tokens.own.load_state_dict(module.state_dict())
        return self

    def set_normalise(self, normalise: str) -> None:
        """Say how windows are standardised: "train" or "subject"."""
        self.config = replace(self.config, normalise=normalise)

    def set_subject(
        self, floor: Mapping[str, Sequence[float]], prior: Mapping[str, Sequence[Sequence[float]]]
    ) -> None:
        """Remember what standardising by person needs.

        Args:
            floor: modality -> smallest deviation of a person, `(C,)`.
            prior: modality -> what is supposed of a person nobody has seen, `(4, C)`; may be empty.
        """
        self.config = replace(self.config, subject_floor=dict(floor), subject_prior=dict(prior))

    def set_target(self, target: Target) -> None:
        """Remember what numbers or labels are standardised by."""
        self.config = replace(self.config, target=target)

    def answers(self, outputs: Tensor) -> NDArray[np.float32]:
        """What outputs `(B, K)` say: probabilities, or numbers in their unit; see `Target.answers`."""
        return self.config.target.answers(outputs.detach().cpu().numpy())

    def tensors(self) -> dict[str, Tensor]:
        """All weights by their stable names: the backbone's, and the gate's under `gate.`."""
        own = {k: v.detach().contiguous() for k, v in self.backbone.state_dict().items()}
        gate = {f"gate.{k}": v.detach().contiguous() for k, v in self.gate.state_dict().items()}
        return own | gate

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `tensors` gave; every name and shape must match.

        Raises:
            CheckpointError: a missing, extra or misshapen tensor; the first one is named.
        """
        have = self.tensors()
        for name in sorted(have.keys() ^ tensors.keys()):
            which = "lacks" if name in have else "has an unknown"
            raise CheckpointError(f"the weights file {which} tensor {name}; it belongs to another model")
        for name, value in have.items():
            if value.shape != tensors[name].shape:
                raise CheckpointError(
                    f"tensor {name} has shape {tuple(tensors[name].shape)}, the configuration asks for "
                    f"{tuple(value.shape)}; it belongs to another model"
                )
        gate = {k.removeprefix("gate."): v for k, v in tensors.items() if k.startswith("gate.")}
        self.gate.load_state_dict(gate)
        self.backbone.load_state_dict({k: v for k, v in tensors.items() if not k.startswith("gate.")})

    def with_mixture(self, mixture: Mixture | None) -> SentryModel:
        """Put a readout beside the transformer, or take it away; returns the model itself."""
        self.mixture = mixture
        self.config = replace(self.config, readout=None if mixture is None else mixture.settings())
        return self

    def with_about(self, about: Mapping[str, Any]) -> SentryModel:
        """Add facts to the model card; returns the model itself."""
        self.config = replace(self.config, about={**self.config.about, **about})
        return self

    def save_pretrained(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write `config.json`, `model.safetensors` and a model card into a new folder.

        Raises:
            ConfigError: the folder exists and is not empty, unless `overwrite`.
        """
        with folder_atomically(Path(folder), overwrite=overwrite) as partial:
            self.write_into(partial)

    def write_into(self, folder: Path) -> None:
        """Write the model's three files into an existing folder."""
        write_json(folder / "config.json", self.config.to_json())
        tensors = self.tensors()
        if self.mixture is not None:
            found = self.mixture.tensors()
            tensors |= {f"readout.{name}": torch.from_numpy(value) for name, value in found.items()}
        save_file(tensors, folder / "model.safetensors")
        write_text(folder / "README.md", model_card(self))


def bundle_name(name: str) -> str:
    """What a tensor of `SentryModel.tensors` is called in a bundle."""
    return name if name.startswith("gate.") else f"weights.{name}"


def create_model(
    backbone: str,
    *,
    modalities: Sequence[Modality],
    classes: Sequence[str],
    preset: str = "small",
    attention: str = "sentry",
    normalise: str = "auto",
    target: Target = CLASSES,
    options: Mapping[str, Any] | None = None,
    widths: Mapping[str, int | Sequence[int]] | None = None,
    encoders: Mapping[str, nn.Module | Encoder] | None = None,
) -> SentryModel:
    """Build a model with random weights.

    Args:
        backbone: a name from `list_models()`.
        modalities: every sensor, in order.
        classes: names of the classes, numbers or labels.
        preset: starting sizes.
        attention: "sentry", or "dense": softmax over all tokens, every query head with a key/value head of
            its own unless `options` say otherwise.
        normalise: "train", "subject", or "auto": what folds of training people choose when it is trained.
        target: what is asked for; `windows.target` of a recording.
        options: fields of the backbone's shape that replace the preset's, such as `{"d_model": 32}`.
        widths: block name -> KV groups of its heads or FFN channels.
        encoders: modality -> a module of your own that makes its tokens, `(B, T, C) -> (B, L, d_model)`; it
            is traced and copied. The others' tokens are made as always.

    Returns:
        The model, with its gate.

    Raises:
        ConfigError: unknown names or sizes that cannot be built; the message names the fix.
    """
    made = backbone_type(backbone)
    if preset not in made.presets:
        raise ConfigError(f"preset {preset!r} of {backbone} is unknown; there is {', '.join(made.presets)}")
    shape = made.presets[preset]
    unknown = sorted(set(options or {}) - set(asdict(shape)))
    if unknown:
        raise ConfigError(
            f"option {', '.join(unknown)} of {backbone} is unknown; there is {', '.join(asdict(shape))}"
        )
    sizes = {**asdict(shape), **(options or {})}
    if attention == "dense":
        shared = getattr(shape, "kv_heads_of", {})
        sizes |= {kv: sizes[heads] for kv, heads in shared.items() if kv not in (options or {})}
    shape = type(shape)(**sizes)
    config = ModelConfig(
        backbone=backbone,
        preset=preset,
        modalities=tuple(modalities),
        classes=tuple(classes),
        shape=asdict(shape),
        attention=AttentionRule(core=cast(Any, attention)),
        widths=widths or {},
        normalise=normalise,
        target=target,
    )
    return SentryModel(config).with_encoders(encoders or {})


def from_pretrained(folder: str | Path) -> SentryModel:
    """Load a model written by `save_pretrained`, `sentryfuse train` or `sentryfuse prune`.

    Raises:
        CheckpointError: a missing or damaged file, or weights that do not fit the configuration.
    """
    folder = Path(folder)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{folder} has no {name}; name a folder written by `sentryfuse train` or `prune`"
            )
    config = ModelConfig.from_json(read_json(folder / "config.json"))
    try:
        model = SentryModel(config)
    except (TypeError, AssertionError) as error:
        raise CheckpointError(f"{folder}/config.json describes no model ({error}); train again") from None
    tensors = read_tensors(folder / "model.safetensors")
    beside = {n.removeprefix("readout."): t.numpy() for n, t in tensors.items() if n.startswith("readout.")}
    model.load_tensors({name: t for name, t in tensors.items() if not name.startswith("readout.")})
    if config.readout is not None:
        try:
            model.mixture = Mixture.from_tensors(config.readout, beside)
        except DataError as error:
            raise CheckpointError(f"{folder}: {error}") from None
    return model.eval()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file.

    Raises:
        CheckpointError: not a safetensors file, or a damaged one.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors ({error}); train again") from None
