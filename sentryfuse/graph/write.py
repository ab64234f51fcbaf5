"""Layout + plan + weights -> one ONNX graph, in which every size is known."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentryfuse.graph import constants, encoder, heads, joins, layer, patch, sax
from sentryfuse.graph.kinds import Misfit, Site, Window, kind_of, takes_what_is_there
from sentryfuse.graph.writer import Graph, Tokens
from sentryfuse.planning.layout import WINDOW, Layout, Span, Step
from sentryfuse.planning.plan import check_plan
from sentryfuse.types import Plan

assert all((constants, encoder, heads, joins, layer, patch, sax))  # each registers its kinds of steps

Array = NDArray[np.float32]
LOGITS = heads.LOGITS
OWN_NAME = re.compile(r"v\d+\.\d+|c\d+|[ci]/.*", re.DOTALL)  # of values inside a graph
MAX_WORK = 200_000  # steps walked through by `check_steps`; models of 60 sensors take a tenth


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
                for site, tokens in zip(group, written, strict=True):
                    _check_tokens(site, tokens)
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
        known: dict[tuple[str, ...], tuple[dict[str, Span], dict[str, int]]] = {}
        for step in layout.steps:
            present = tuple(name for name in layout.names if name not in step.lacks)
            if present not in known:
                if len(known) * len(layout.steps) > MAX_WORK:
                    raise Misfit("has steps that lack too many different sensors to check")
                spans = layout.spans(present) if present else {}
                made = {s.writes: spans[s.name].leaving for s in layout.steps if s.name in spans}
                known[present] = spans, made
            self._check_step(step, present, *known[present])

    def _check_step(
        self, step: Step, present: tuple[str, ...], spans: Mapping[str, Span], made: Mapping[str, int]
    ) -> None:
        layout, kind = self.layout, kind_of(step)
        if step.reads and step.name not in spans:
            raise Misfit(f"has a step {step.name} that never runs")
        if step.tokens and (step.leaves != "same" or (step.reads and step.window is None)):
            raise Misfit(f"has a step {step.name} that makes {step.tokens} tokens, whatever it reads")
        if step.leaves == "sum" and not takes_what_is_there(step):
            raise Misfit(f"has a step {step.name} ({step.op}) that makes the sum of what it reads")
        if OWN_NAME.fullmatch(step.writes):
            raise Misfit(f"has a step {step.name} that writes {step.writes}, a name graphs use themselves")
        reads = [
            Window(name) if name.startswith(WINDOW) else Tokens(made[name], full=name)
            for name in step.reads
            if name in made or name.startswith(WINDOW)
        ]
        span = spans.get(step.name, Span(step.tokens, step.tokens, 0))
        kept = {block.name: range(block.units) for block in step.blocks}
        site = self._site(step, span, made, present, kept, None, "x")
        _check_tokens(site, kind.emit(Graph(layout.d_model, batch=None, fused=False), site, *reads))
        unread = sorted(site.tensors.keys() - site.read)
        if unread:
            raise Misfit(f"holds a tensor {step.name}.{unread[0]} that nothing asks for")
        unasked = sorted(step.options.keys() - site.asked)
        if unasked:
            raise Misfit(f"has a step {step.name} with an option {unasked[0]} that nothing asks for")
        if step.program is not None and not site.ran:
            raise Misfit(f"has a step {step.name} ({step.op}) with a program that nothing asks for")
        for block in step.blocks:
            prefix = f"{block.name[len(step.name) + 1 :]}."
            if not site.read.issuperset(f"{prefix}{leaf}" for leaf in block.leaves):
                raise Misfit(f"has a block {block.name} that its step ({step.op}) does not use")
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


def _check_tokens(site: Site, tokens: Tokens) -> None:
    """Refuse a step that makes something else than the layout says it does."""
    step, said = site.step, site.span.leaving
    if tokens.length != said:
        raise Misfit(f"has a step {step.name} that makes {tokens.length} tokens, the layout says {said}")
    if (tokens.flat == LOGITS) != (step.writes == LOGITS):
        raise Misfit(f"has a step {step.name} ({step.op}) that writes {step.writes}, which it does not make")


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
