"""The list of backbones; a new one registers itself by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeVar, cast

from sentryfuse.errors import ConfigError
from sentryfuse.model.backbone import Backbone
from sentryfuse.planning.layout import AttentionRule
from sentryfuse.types import Modality


class BackboneType(Protocol):
    """What a registered class offers: presets of its shape and one constructor contract."""

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


_MODELS: dict[str, BackboneType] = {}
T = TypeVar("T", bound=type[Backbone])


def register_model(name: str) -> Callable[[T], T]:
    """Decorate a backbone class so that `create_model(name)` finds it.

    Raises:
        ConfigError: the name is taken.
    """

    def register(cls: T) -> T:
        if name in _MODELS:
            raise ConfigError(f"a backbone called {name} exists; register under another name")
        _MODELS[name] = cast(BackboneType, cls)
        return cls

    return register


def list_models() -> list[str]:
    """Names of all registered backbones."""
    return sorted(_MODELS)


def backbone_type(name: str) -> BackboneType:
    """The class behind a name.

    Raises:
        ConfigError: no such backbone; the message lists those there are.
    """
    if name not in _MODELS:
        raise ConfigError(f"backbone {name!r} is unknown; there is {', '.join(list_models())}")
    return _MODELS[name]
