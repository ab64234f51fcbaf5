"""Layout + plan + weights -> one ONNX graph, in which every size is known."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentryfuse.graph import constants, heads, joins, layer, patch, sax
from sentryfuse.graph.kinds import Misfit, Site, kind_of
from sentryfuse.graph.writer import Graph, Tokens
from sentryfuse.planning.layout import WINDOW, Layout, Span, Step
from sentryfuse.planning.plan import check_plan
from sentryfuse.types import Plan

assert all((constants, heads, joins, layer, patch, sax))  # each registers its kinds of steps

Array = NDArray[np.float32]
LOGITS = heads.LOGITS


class Part(NamedTuple):
    """Some steps of a sub-network.

    Attributes:
        steps: in the order they run.
        windows: sensors whose windows they read.
        given: values they read that other parts make.
        writes: the value they are run for.
    """

    steps: tuple[Step, ...]
    windows: tuple[str, ...]
    given: tuple[str, ...]
    writes: str


class Writer:
    """Writes sub-networks of one model.

    Args:
        layout: of the model.
        weights: all of them by name.
        n_classes: `K`.
    """

    def __init__(self, layout: Layout, weights: Mapping[str, Array], n_classes: int) -> None:
        self.layout, self.n_classes = layout, n_classes
        self.tensors = weights_by_step(layout, weights)
        self.modalities = {m.name: m for m in layout.modalities}

    def write(self, plan: Plan, part: Part, *, batch: int | None, fused: bool) -> bytes:
        """Write some steps of a sub-network.

        Args:
            plan: which steps run and which units stay.
            part: which of those steps.
            batch: windows per call; `None` leaves it open.
            fused: use operators that onnxruntime alone knows.

        Returns:
            A model whose inputs are `window.<modality>` `(B, T, C)` and the values the part is given,
            `(B, L, D)`; its output is what the part is run for.

        Raises:
            ConfigError: the plan belongs to another model.
            Misfit: weights or options that do not fit a step.
        """
        layout = self.layout
        check_plan(layout, plan)
        spans = layout.spans(plan.present)
        made = {step.writes: spans[step.name].leaving for step in layout.route(plan.present)}
        graph = Graph(layout.d_model, batch=batch, fused=fused)
        free: int | str = batch or "B"
        inputs: dict[str, Sequence[int | str]] = {
            f"{WINDOW}{name}": (free, m.length, m.n_channels)
            for name, m in self.modalities.items()
            if name in part.windows
        }
        inputs |= {value: (free, made[value], layout.d_model) for value in part.given}
        anchor = next(iter(inputs))
        values = {value: Tokens(made[value], full=value) for value in part.given}

        def reads_of(step: Step) -> list[Tokens | str]:
            return [name if name.startswith(WINDOW) else values[name] for name in step.reads]

        for steps in _in_turn(part.steps, [*part.given, *inputs]):
            sites = [
                self._site(step, spans[step.name], made, plan.present, plan.kept, batch, anchor)
                for step in steps
            ]
            for group in _groups(sites):
                kind = kind_of(group[0].step)
                reads: list[Any] = [reads_of(site.step) for site in group]
                if len(group) > 1 and kind.together:
                    written = kind.together(graph, group, reads)
                else:
                    written = [kind.emit(graph, group[0], *reads[0])]
                values |= {site.step.writes: tokens for site, tokens in zip(group, written, strict=True)}
        if part.writes == LOGITS:
            return graph.finish(inputs, (LOGITS, (free, self.n_classes)))
        length = made[part.writes]
        graph.reshape(graph.full(values[part.writes]), -1, length, layout.d_model, writes=part.writes)
        return graph.finish(inputs, (part.writes, (free, length, layout.d_model)))

    def check_steps(self) -> None:
        """Write every step once, whole, to see that its weights and options are what its kind asks for.

        Raises:
            Misfit: naming the first that are not.
        """
        layout = self.layout
        kept = {name: range(block.units) for name, block in layout.blocks.items()}
        for step in layout.steps:
            present = tuple(name for name in layout.names if name not in step.lacks)
            spans = layout.spans(present) if present else {}
            live = layout.route(present) if present else ()
            made = {other.writes: spans[other.name].leaving for other in live}
            graph = Graph(layout.d_model, batch=None, fused=False)
            span = spans.get(step.name, Span(0, step.tokens, 0))
            site = self._site(step, span, made, present, kept, None, "x")
            reads = [name if name.startswith(WINDOW) else Tokens(made[name], full=name)
                     for name in step.reads if name in made or name.startswith(WINDOW)]  # fmt: skip
            kind_of(step).emit(graph, site, *reads)
            unread = sorted(site.tensors.keys() - site.read)
            if unread:
                raise Misfit(f"holds a tensor {step.name}.{unread[0]} that nothing asks for")
            if site.trained != step.params_fixed:
                raise Misfit(
                    f"holds {site.trained} weights of {step.name} beside its units, the layout says "
                    f"{step.params_fixed}"
                )

    def _site(
        self,
        step: Step,
        span: Span,
        made: Mapping[str, int],
        present: Sequence[str],
        kept: Mapping[str, Sequence[int]],
        batch: int | None,
        anchor: str,
    ) -> Site:
        return Site(
            step=step,
            modality=self.modalities.get(step.window or ""),
            span=span,
            parts=[made.get(name, 0) for name in step.parts],
            present=present,
            kept=kept,
            tensors=self.tensors[step.name],
            d_model=self.layout.d_model,
            n_classes=self.n_classes,
            rule=self.layout.attention,
            batch=batch,
            anchor=anchor,
        )


def weights_by_step(layout: Layout, weights: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Weights (or anything else by their names) of every step by their names inside it.

    Raises:
        Misfit: a weight of no step.
    """
    owned: dict[str, dict[str, Any]] = {step.name: {} for step in layout.steps}
    for name, value in weights.items():
        at = name.rfind(".")
        while at > 0 and name[:at] not in owned:
            at = name.rfind(".", 0, at)
        if at <= 0:
            raise Misfit(f"holds weights.{name}, which belongs to no step")
        owned[name[:at]][name[at + 1 :]] = value
    return owned


def _in_turn(steps: Sequence[Step], there: Collection[str]) -> list[list[Step]]:
    """Steps in rounds: those of one round wait for earlier rounds only."""
    rounds: list[list[Step]] = []
    made_in = dict.fromkeys(there, -1)
    for step in steps:
        turn = 1 + max((made_in[name] for name in step.reads), default=-1)
        made_in[step.writes] = turn
        while len(rounds) <= turn:
            rounds.append([])
        rounds[turn].append(step)
    return rounds


def _groups(sites: Sequence[Site]) -> list[list[Site]]:
    """Sites of one round that are written together."""
    groups: dict[Any, list[Site]] = {}
    for site in sites:
        kind = kind_of(site.step)
        key = kind.alike(site) if kind.alike and site.batch else site.step.name
        groups.setdefault((site.step.op, key), []).append(site)
    return [*groups.values()]
