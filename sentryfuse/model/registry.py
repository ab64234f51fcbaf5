"""The list of backbones; a new one registers itself by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeVar, cast

from sentryfuse.model.backbone import Backbone
from sentryfuse.planning.layout import AttentionRule
from sentryfuse.register import Register
from sentryfuse.types import Modality


class BackboneType(Protocol):
    """What a registered class offers: presets of its shape and one constructor contract.

    Attributes:
        shape_type: a frozen dataclass of numbers, words and truths: the sizes before pruning; `Sizes` or a
            subclass. Its fields are what `options` of `create_model` may replace.
        presets: name -> such a shape; "small" is the default.
    """

    shape_type: ClassVar[type[Any]]
    presets: ClassVar[Mapping[str, Any]]

    def __call__(
        self,
        modalities: Sequence[Modality],
        n_classes: int,
        *,
        shape: Any,
        rule: AttentionRule,
        widths: Mapping[str, int | Sequence[int]],
        slots: Sequence[str],
    ) -> Backbone:
        """Build the backbone.

        Args:
            modalities: every sensor that may be present, in order.
            n_classes: labels to tell apart.
            shape: sizes before pruning, of `shape_type`.
            rule: which attention core at which length.
            widths: block name -> group of every unit, or number of FFN channels; absent name = `shape`'s.
            slots: names of the modalities the model was made for, in order: `modalities`, and those that
                pruning has cut away for good.
        """


_MODELS: Register[BackboneType] = Register(
    "backbone", group="sentryfuse.backbones", decorator="sf.register_model"
)
T = TypeVar("T", bound=type[Backbone])


def register_model(name: str) -> Callable[[T], T]:
    """Decorate a backbone class so that `create_model(name)` finds it.

    An installed package makes its own known by an entry point of the group `sentryfuse.backbones`.

    Raises:
        ConfigError: the name is taken.
    """

    def register(cls: T) -> T:
        _MODELS.add(name, cast(BackboneType, cls))
        return cls

    return register


def list_models() -> list[str]:
    """Names of all registered backbones."""
    return sorted(_MODELS.names())


def backbone_type(name: str) -> BackboneType:
    """The class behind a name.

    Raises:
        ConfigError: no such backbone; the message lists those there are.
    """
    return _MODELS.find(name)
