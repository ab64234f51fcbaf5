"""What every backbone is: named steps, run in the order of its layout."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property

from torch import Tensor, nn

from sentryfuse.errors import ConfigError
from sentryfuse.model.attention import Selection
from sentryfuse.model.call import Call
from sentryfuse.planning.layout import Layout
from sentryfuse.types import check_present


class Backbone(nn.Module):
    """A model that is a list of steps; a new backbone only builds submodules and a layout.

    A subclass sets its submodules and implements `build_layout`; every step's `name` is the path of the
    submodule that does it, called as `module(*values it reads, at=Call)`. The one module that reads the
    window of a sensor holds buffers `mean` and `std`, `(C,)` each, in itself or further inside (`Normalise`
    has them): training puts the statistics of its windows there. If it has a method
    `measure(within, windows)` as `PatchTokens` has, that is called next, with deviations inside windows
    `(C,)` and some windows `(n, T, C)`.

    How the constructor is called says `sentryfuse.model.registry.BackboneType`; docs/own_parts.md shows one.
    """

    def build_layout(self) -> Layout:
        """Write down the steps of this model."""
        raise NotImplementedError(f"{type(self).__name__} has no layout")

    @cached_property
    def layout(self) -> Layout:
        """The steps of this model; computed once.

        Raises:
            ConfigError: a step without its submodule, or a sensor that not exactly one step reads.
        """
        layout, kind = self.build_layout(), type(self).__name__
        modules = dict(self.named_modules())
        for step in layout.steps:
            if step.name not in modules:
                raise ConfigError(
                    f"{kind} has a step {step.name} and no submodule of that path; set one, or name the step "
                    "after the submodule that does it"
                )
        for name in layout.names:
            readers = [step.name for step in layout.steps if step.window == name]
            buffers = [b for r in readers for b, _ in modules[r].named_buffers()]
            if len(readers) != 1 or not {"mean", "std"} <= {b.rsplit(".", 1)[-1] for b in buffers}:
                raise ConfigError(
                    f"{kind} reads the window of {name} in {len(readers)} steps, or without buffers `mean` "
                    "and `std`; let one step read it, through `sentryfuse.model.Normalise`"
                )
        return layout

    def embedding_of(self, name: str) -> nn.Module:
        """What makes the tokens of a sensor: the step that reads its windows."""
        return self.get_submodule(self._embedding_path(name))

    def set_embedding(self, name: str, make: Callable[[str, int], nn.Module]) -> None:
        """Let something else make the tokens of a sensor; all other steps stay.

        Args:
            name: of the sensor.
            make: `(path, d_model)` -> the submodule; its `step()` reads and writes what the old one's did.
        """
        path = self._embedding_path(name)
        parent, _, leaf = path.rpartition(".")
        self.get_submodule(parent).add_module(leaf, make(path, self.layout.d_model))
        self.__dict__.pop("layout", None)  # it is written down anew

    def _embedding_path(self, name: str) -> str:
        return next(step.name for step in self.layout.steps if step.window == name)

    def forward(
        self,
        windows: Mapping[str, Tensor],
        present: Iterable[str] | None = None,
        *,
        select: Selection | None = None,
    ) -> Tensor:
        """Answer a batch in which all windows share one set of present sensors.

        Args:
            windows: modality name -> raw windows `(B, T, C)`; those of absent sensors are never read.
            present: names of the sensors that are on; `None` means all.
            select: units that take part; `None` means all.

        Returns:
            Logits, `(B, n_classes)`.

        Raises:
            ConfigError: an unknown sensor name, or a present sensor without windows.
            NoSensorsError: no sensor is present.
        """
        names = check_present(present, self.layout.names)
        for name in names:
            if name not in windows:
                raise ConfigError(
                    f"sensor {name} is present and has no windows; give them, or leave it out of present"
                )
        values = {f"window.{name}": windows[name] for name in names}
        n_windows, device = len(windows[names[0]]), windows[names[0]].device
        for step in self.layout.route(names):
            parts = [int(values[part].shape[1]) if part in values else 0 for part in step.parts]
            module = self.get_submodule(step.name)
            at = Call(n_windows, device, parts, select)
            values[step.writes] = module(*(values[name] for name in step.reads), at=at)
        return values[step.writes]

    def router_loss(
        self, present: Sequence[str], mean: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor | None:
        """What the routers of the last training pass add to the loss; `None` = nothing.

        Args:
            present: the sensors that were on.
            mean: means over the windows of this pass -> means over a batch that it is a part of; `None` = it
                was the whole batch.
        """
        return None
