"""Everything about a model but its weights, as a file holds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sentryfuse.errors import CheckpointError, ConfigError
from sentryfuse.model.encoder import TracedEncoder
from sentryfuse.planning.layout import AttentionRule
from sentryfuse.target import CLASSES, Target
from sentryfuse.types import Modality

FORMAT = 4  # models of 3 were never trained without one of their blocks


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything needed to rebuild a model, except its weights.

    Attributes:
        backbone: registered name.
        preset: the preset the shape came from.
        modalities: every sensor, in order.
        classes: names of the classes, numbers or labels.
        shape: sizes before pruning, as a dictionary of the backbone's shape type.
        attention: which core at which length.
        widths: block name -> KV groups of its heads or FFN channels, where they differ from `shape`.
        normalise: "train" (statistics of the training windows, inside the model), "subject" (each person's
            own statistics first), or "auto" (not trained yet; as "train" until then).
        subject_floor: modality -> smallest deviation used per subject, `(C,)`; "subject" only.
        subject_prior: modality -> what is supposed of a person nobody has seen, `(4, C)`, see
            `sentryfuse.data.subject_prior`; "subject" only, models without it suppose nothing.
        about: free facts for the model card (data set, seed, epochs, scores).
        slots: names of the modalities the model was made for, in order; those that are not among
            `modalities` have been cut away for good. Empty = `modalities`.
        readout: settings of the readout beside the transformer; `None` = there is none.
        target: what is asked for; of numbers and labels with what they are standardised by.
        encoders: modality -> what makes its tokens, where it is an encoder of somebody's own.
    """

    backbone: str
    preset: str
    modalities: tuple[Modality, ...]
    classes: tuple[str, ...]
    shape: Mapping[str, Any]
    attention: AttentionRule
    widths: Mapping[str, int | Sequence[int]] = field(default_factory=dict)
    normalise: str = "train"
    subject_floor: Mapping[str, Sequence[float]] = field(default_factory=dict)
    subject_prior: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    slots: tuple[str, ...] = ()
    readout: Mapping[str, Any] | None = None
    target: Target = CLASSES
    encoders: Mapping[str, TracedEncoder] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what no model can be built from."""
        if not self.modalities:
            raise ConfigError("a model needs at least one modality; none was given")
        names = [m.name for m in self.modalities]
        if len(set(names)) != len(names):
            raise ConfigError(f"modality names must differ, got {', '.join(names)}")
        if len(self.classes) < self.target.least_outputs:
            what = "two classes" if self.target.of_classes else "one number or label"
            raise ConfigError(f"a model needs at least {what}, got {len(self.classes)}")
        if self.normalise not in ("auto", "train", "subject"):
            raise ConfigError(f"normalise {self.normalise!r} is unknown; choose auto, train or subject")
        if not self.slots:
            object.__setattr__(self, "slots", tuple(names))
        if len(set(self.slots)) != len(self.slots) or not set(names) <= set(self.slots):
            raise ConfigError(f"slots {', '.join(self.slots)} must differ and name every modality")
        strange = sorted(set(self.encoders) - set(names))
        if strange:
            raise ConfigError(f"there is an encoder for {strange[0]}, and the sensors are {', '.join(names)}")

    def to_json(self) -> dict[str, Any]:
        """A dictionary for `json.dumps`."""
        body = {"format": FORMAT, **asdict(self)}
        for key in ("encoders", "subject_prior"):
            if not body[key]:
                del body[key]
        return body

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModelConfig:
        """Rebuild from `to_json`.

        Raises:
            CheckpointError: another format version, or a missing key.
        """
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            found = data.get("format") if isinstance(data, Mapping) else None
            raise CheckpointError(
                f"model config has format {found!r}, this version reads {FORMAT}; "
                "use the version of sentryfuse that wrote it"
            )
        try:
            own = ("target", "encoders", "subject_prior")  # models without them may have no such keys
            body = {key: data[key] for key in cls.__dataclass_fields__ if key not in own}
            body["target"] = _target(data.get("target", {}))
            encoders = data.get("encoders", {})
            body["encoders"] = {name: TracedEncoder.from_json(e) for name, e in encoders.items()}
            body["subject_prior"] = data.get("subject_prior", {})
            body["slots"] = tuple(data["slots"])
            body["modalities"] = tuple(Modality.from_json(m) for m in data["modalities"])
            body["classes"] = tuple(data["classes"])
            body["attention"] = AttentionRule(**data["attention"])
            return cls(**body)
        except KeyError as error:
            raise CheckpointError(f"model config lacks the key {error}; train again") from None
        except (TypeError, AttributeError) as error:
            raise CheckpointError(f"model config cannot be read ({error}); train again") from None


def _target(data: Mapping[str, Any]) -> Target:
    """Rebuild from JSON."""
    return Target(
        **{**data, **{key: tuple(data[key]) for key in ("mean", "std", "gain", "bias") if key in data}}
    )
