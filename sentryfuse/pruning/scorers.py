"""Scorers rank units: their protocol, the register of them by name, and the gate; needs torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol, TypeVar

from sentryfuse.model.pretrained import SentryModel
from sentryfuse.planning.importance import Importance, levelled
from sentryfuse.planning.plan import plan_layout
from sentryfuse.planning.profile import DeviceProfile
from sentryfuse.register import Register
from sentryfuse.types import Budget, Plan, check_present

if TYPE_CHECKING:
    from sentryfuse.pruning.calibration import Calibrator


class Scorer(Protocol):
    """Ranks the units of one model for the sensors that are present.

    Attributes:
        name: written into plans and rows; `make_scorer` sets it to the registered one.
    """

    name: str

    def importance(self, present: tuple[str, ...]) -> Importance:
        """Block name -> `(units,)`, positive, higher stays longer."""

    def refine(self, plan: Plan) -> Plan:
        """A plan made from this importance, improved at no more cost; by default as it is."""
        return plan


_SCORERS: Register[Callable[[Calibrator], Scorer]] = Register(
    "scorer", group="sentryfuse.scorers", decorator="sf.register_scorer"
)
T = TypeVar("T", bound="Callable[[Calibrator], Scorer]")


def register_scorer(name: str) -> Callable[[T], T]:
    """Decorate a `Scorer` class, or a function that makes one, so that it is found by name.

    It is called with a `Calibrator`, which holds the model, its recording and a seed, and looks at training
    windows when asked to. From then on the name works in `evaluate`, `sentryfuse evaluate --scorer` and in
    the design of a study. An installed package makes its own known by an entry point of the group
    `sentryfuse.scorers`.

    Raises:
        ConfigError: the name is taken.
    """

    def register(make: T) -> T:
        _SCORERS.add(name, make)
        return make

    return register


def list_scorers() -> list[str]:
    """Names of all registered scorers, in the order of registration."""
    return _SCORERS.names()


def check_scorer(name: str) -> None:
    """Refuse an unknown name.

    Raises:
        ConfigError: no such scorer; the message lists those there are.
    """
    _SCORERS.find(name)


def make_scorer(name: str, calibrator: Calibrator) -> Scorer:
    """A scorer by name.

    Args:
        name: one of `list_scorers`.
        calibrator: of the model whose units are ranked; scorers that share it share its passes.

    Raises:
        ConfigError: no such scorer; the message lists those there are.
    """
    scorer = _SCORERS.find(name)(calibrator)
    scorer.name = name
    return scorer


class GateScorer(Scorer):
    """The learned gate: the only one here that knows which sensors are present.

    Attributes:
        sizes: factors on the gate's importance, block name -> `(units,)`; empty where they are part of it.
    """

    name = "gate"

    def __init__(self, model: SentryModel) -> None:
        self.model = model
        self.sizes: Importance = {}

    def importance(self, present: tuple[str, ...]) -> Importance:
        """The gate's importance, levelled between the blocks."""
        found = {name: t.cpu().numpy() for name, t in self.model.gate.importance(present).items()}
        return levelled({name: s * self.sizes[name] for name, s in found.items()} if self.sizes else found)


def make_plan(
    model: SentryModel,
    present: Iterable[str] | None = None,
    budget: Budget | None = None,
    *,
    scorer: Scorer | None = None,
    profile: DeviceProfile | None = None,
) -> Plan:
    """Decide which units of a model stay; a dry run that changes nothing.

    Args:
        model: trained or pruned.
        present: names of the sensors that are on; `None` means all.
        budget: what one window may cost; `None` means everything.
        scorer: ranks the units; `None` means the model's gate.
        profile: times measured on the device; needed for a budget in milliseconds.

    Returns:
        The plan; `prune` executes it.

    Raises:
        BudgetError: no sub-network fits; the message names the nearest budget that does.
        ConfigError: unknown sensor names.
    """
    scorer = scorer or GateScorer(model)
    names = check_present(present, model.names)
    plan = plan_layout(
        model.layout,
        scorer.importance(names),
        present=names,
        budget=budget or Budget(ratio=0.0),
        scorer=scorer.name,
        profile=profile,
        beside=None if model.mixture is None else model.mixture.readout.cost(names),
    )
    return scorer.refine(plan)
