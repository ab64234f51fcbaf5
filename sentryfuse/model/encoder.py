"""An encoder of somebody's own, as a torch module made from its program; no source of theirs is needed.

Notation: B windows · T steps · C channels · L tokens · D d_model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sentryfuse.errors import CheckpointError, ConfigError
from sentryfuse.model.call import Call
from sentryfuse.model.operators import run_node
from sentryfuse.model.tokens import Normalise
from sentryfuse.planning.layout import Step
from sentryfuse.planning.program import WINDOW, Program
from sentryfuse.types import Modality


@dataclass(frozen=True)
class Encoder:
    """A module of your own that makes the tokens of one sensor, and what it is given.

    Attributes:
        module: plain torch, `(B, T, C) -> (B, L, D)`, float32; `D` is the model's `d_model`. It is traced and
            copied; neither changed nor kept.
        physical: it gets windows as they were recorded, in physical units, with the training mean where a
            value was not measured. Otherwise it gets them in training deviations from the training mean,
            clipped at 10, with 0 where a value was not measured.
    """

    module: nn.Module
    physical: bool = False


@dataclass(frozen=True)
class TracedEncoder:
    """An encoder as a model's configuration holds it.

    Attributes:
        program: what it computes.
        physical: as in `Encoder`.
    """

    program: Program
    physical: bool = False

    @classmethod
    def from_json(cls, data: Any) -> TracedEncoder:
        """Rebuild from `dataclasses.asdict`.

        Raises:
            CheckpointError: it is none.
        """
        try:
            if not isinstance(data, Mapping) or data.keys() != {"program", "physical"}:
                raise ConfigError("the encoder of a sensor has a program and the word physical")
            if type(data["physical"]) is not bool:
                raise ConfigError("physical is true or false")
            return cls(Program.from_json(data["program"]), data["physical"])
        except ConfigError as error:
            raise CheckpointError(f"model config cannot be read ({error}); train again") from None


class ProgramModule(nn.Module):
    """Runs a program, `(B, T, C)` -> its last value; weights start at 0.

    Trained weights are parameters, frozen ones parameters without gradient, measured ones buffers. With no
    trained weight at all it runs as in inference also while others train.
    """

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program
        self.learns = any(weight.role == "trained" for weight in program.weights)
        for weight in program.weights:
            zeros = torch.zeros(weight.shape)
            if weight.role == "measured":
                self.register_buffer(weight.name, zeros)
            else:
                self.register_parameter(weight.name, nn.Parameter(zeros, weight.role == "trained"))

    def forward(self, x: Tensor) -> Tensor:
        """Compute every node in order."""
        training = self.training and self.learns
        values: dict[str, Tensor] = {**dict(self.named_parameters()), **dict(self.named_buffers()), WINDOW: x}
        for i, node in enumerate(self.program.nodes):
            reads = [values[name] for name in node.reads]
            values[f"v{i}"] = run_node(node.op, reads, node.options, len(x), training)
        return values[f"v{len(self.program.nodes) - 1}"]


def running_statistics(module: nn.Module) -> list[Tensor]:
    """Means and variances that training moves, of all encoders of somebody's own inside a module."""
    found: dict[int, Tensor] = {}
    for part in module.modules():
        if isinstance(part, ProgramModule) and part.learns:
            buffers = dict(part.named_buffers())
            for node in part.program.nodes:
                if node.op == "batch norm" and node.options["momentum"]:
                    found |= {id(buffers[name]): buffers[name] for name in node.reads[1:3] if name in buffers}
    return [*found.values()]


class EncoderTokens(nn.Module):
    """Tokens of one sensor by a program, with a learned position added to each; `(B, T, C)` -> `(B, L, D)`.

    Args:
        name: prefix of the weights.
        modality: the stream.
        d_model: token width `D`.
        encoder: what makes the tokens.

    Raises:
        ConfigError: the program does not fit the modality's windows or `d_model`.

    Source:
        Positions are our choice: without them a joint layer could not tell the tokens of two sensors apart.
    """

    def __init__(self, name: str, modality: Modality, d_model: int, *, encoder: TracedEncoder) -> None:
        super().__init__()
        self.name, self.modality, self.physical = name, modality, encoder.physical
        window = modality.length, modality.n_channels
        try:
            self.macs = encoder.program.sizes(*window).macs
            self.n_tokens = encoder.program.tokens(*window, d_model)
        except ConfigError as error:
            raise ConfigError(f"the encoder of {modality.name} {error}") from None
        self.normalise = Normalise(modality)
        self.own = ProgramModule(encoder.program)
        self.position = nn.Parameter(0.02 * torch.randn(self.n_tokens, d_model))

    def forward(self, x: Tensor, *, at: Call) -> Tensor:
        """Encode the windows; NaN only where the modality may miss values."""
        if not self.physical:
            x = self.normalise(x)[0].transpose(1, 2)
        elif self.modality.may_miss:
            x = torch.where(torch.isnan(x), self.normalise.mean, x)
        return self.own(x) + self.position

    def step(self) -> Step:
        """This embedding as a step of a layout."""
        return Step(
            self.name,
            "encoder",
            (f"window.{self.modality.name}",),
            f"tokens.{self.modality.name}",
            needs=(self.modality.name,),
            tokens=self.n_tokens,
            options={"input": "physical" if self.physical else "normalised"},
            macs_fixed=self.macs,
            params_fixed=sum(p.numel() for p in self.parameters()),
            program=self.own.program,
        )
