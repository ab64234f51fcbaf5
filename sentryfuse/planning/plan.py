"""Importance and a budget -> a frozen decision. Looks, never touches a model. Torch-free.

All units of the blocks that run are put in one order of removal, cheapest loss per MAC saved first. A
budget only says how far along that order to go, so plans nest by construction. With its last unit a block is
gone; where none is left the readout answers alone or, without one, what embeds and the head.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.errors import BudgetError, ConfigError
from sentryfuse.planning.cost import BYTES_PER_WEIGHT, count, with_beside
from sentryfuse.planning.importance import Importance
from sentryfuse.planning.layout import Layout
from sentryfuse.planning.profile import DeviceProfile
from sentryfuse.planning.removals import Priced, Removal, removals_of
from sentryfuse.types import Budget, Cost, Plan, check_present


def plan_layout(
    layout: Layout,
    importance: Importance | Priced,
    *,
    present: Iterable[str] | None = None,
    budget: Budget,
    scorer: str,
    profile: DeviceProfile | None = None,
    beside: Cost | None = None,
) -> Plan:
    """Choose which units stay.

    Args:
        layout: of the model.
        importance: of every unit, block name -> `(units,)`, higher stays longer; comparable within
            a kind (heads, FFN channels), of any scale. Or a memory of what follows from it.
        present: names of the sensors that are on; `None` means all.
        budget: any limits; several at once all hold.
        scorer: name of who ranked the units; written into the plan.
        profile: times measured on the device; needed for a budget in milliseconds or millijoules.
        beside: what a readout beside the transformer costs; it answers alone where no layer is left, at
            ratio 1 for instance. `None` = there is none.

    Returns:
        The plan; its cost never exceeds the budget.

    Raises:
        BudgetError: no sub-network fits; the message names the nearest budget that does.
        ConfigError: importance with missing blocks, wrong lengths or values that are not finite.

    Source:
        Greedy by importance per MAC on each block's convex hull, where the last unit also saves what its
        block takes beside products (`removals.OVERHEAD`, or as a profile has it); our choice.
    """
    names = check_present(present, layout.names)
    if isinstance(importance, Priced):
        removals = importance.removals(names, profile)
    else:
        removals = removals_of(layout, names, importance, profile)
    _check_profile(budget, profile)
    try:
        return follow(layout, names, removals, budget=budget, scorer=scorer, profile=profile, beside=beside)
    except BudgetError:
        alone_ms = None if profile is None else profile.readout_ms(names)
        measured = budget.latency_ms is not None or budget.energy_mj is not None
        if beside is None or (measured and alone_ms is None):  # nobody has measured the readout alone
            raise
        _check_alone(budget, beside, profile, alone_ms)
        return _alone(layout, names, budget, scorer, beside, next(iter(budget.limits)))


def _check_alone(budget: Budget, beside: Cost, profile: DeviceProfile | None, alone_ms: float | None) -> None:
    """Refuse a budget below what the readout alone takes."""
    if budget.macs is not None and budget.macs < beside.macs:
        raise BudgetError(
            f"nothing answers in {budget.macs} MAC; the readout alone needs {beside.macs}"
        ) from None
    if budget.memory_mb is not None and budget.memory_mb < beside.weights_mb:
        least = math.ceil(1000 * beside.weights_mb) / 1000
        raise BudgetError(
            f"nothing fits {budget.memory_mb} MB of weights; the readout alone needs {least} MB"
        ) from None
    if profile is None or alone_ms is None:
        return
    needed_ms = profile.safe_factor * alone_ms
    if budget.latency_ms is not None and budget.latency_ms < needed_ms:
        raise BudgetError(
            f"nothing answers in {budget.latency_ms:g} ms on this device; the readout alone needs "
            f"{math.ceil(1000 * needed_ms) / 1000:g} ms"
        ) from None
    needed_mj = (profile.mj_per_ms or 0.0) * alone_ms
    if budget.energy_mj is not None and budget.energy_mj < needed_mj:
        raise BudgetError(
            f"nothing takes {budget.energy_mj:g} mJ or less on this device; the readout alone needs "
            f"{math.ceil(1000 * needed_mj) / 1000:g} mJ"
        ) from None


def follow(
    layout: Layout,
    names: tuple[str, ...],
    removals: Sequence[Removal],
    *,
    budget: Budget,
    scorer: str,
    profile: DeviceProfile | None = None,
    beside: Cost | None = None,
) -> Plan:
    """Remove what is cheapest, in order, until the budget holds.

    Args:
        layout: of the model.
        names: sensors that are on, in the model's order.
        removals: what each block can lose, with prices.
        budget: any limits; several at once all hold.
        scorer: name of who ranked the units; written into the plan.
        profile: times measured on the device; needed for a budget in milliseconds or millijoules.
        beside: what a readout beside the transformer costs; `None` = there is none.

    Returns:
        The plan; its cost never exceeds the budget.

    Raises:
        BudgetError: no sub-network fits; the message names the nearest budget that does.
    """
    _check_profile(budget, profile)
    dense = with_beside(count(layout, names), beside)
    prices = np.concatenate([r.price for r in removals]) if removals else np.empty(0)
    sequence = np.argsort(prices, kind="stable")
    owner = np.repeat(np.arange(len(removals)), [len(r.price) for r in removals])[sequence]

    def saved(what: str) -> NDArray[Any]:
        """After each removal."""
        parts = [getattr(r, what) for r in removals]
        return np.cumsum(np.concatenate(parts)[sequence]) if parts else np.empty(0)

    needed = {"none": 0}
    limits: list[tuple[str, float, NDArray[Any]]] = [
        *_limits(layout, dense, budget, saved("macs"), saved("shell_macs"), saved("params"))
    ]
    if profile is not None:
        limits += _time_limits(layout, names, budget, profile, saved("ms"))
    for limit, over, after in limits:
        n = int(np.searchsorted(after, over)) + 1 if over > 0 else 0
        needed[limit] = n
    binding = max(needed, key=lambda k: needed[k])
    n = needed[binding]
    gone = np.bincount(owner[:n], minlength=len(removals))
    kept = {}
    for removal, steps in zip(removals, gone, strict=True):
        left = removal.order[removal.taken[steps - 1] if steps else 0 :]
        kept[removal.block.name] = tuple(np.sort(left).tolist())
    if beside is not None and not any(kept.values()):
        return _alone(layout, names, budget, scorer, beside, binding)
    return Plan(
        present=names,
        kept=kept,
        budget=budget,
        scorer=scorer,
        cost=with_beside(count(layout, names, kept=kept), beside),
        dense=dense,
        binding=binding if n else "none",
    )


def _alone(
    layout: Layout, names: tuple[str, ...], budget: Budget, scorer: str, beside: Cost, binding: str
) -> Plan:
    """The plan in which no layer runs."""
    return Plan(
        present=names,
        kept={},
        budget=budget,
        scorer=scorer,
        cost=beside,
        dense=with_beside(count(layout, names), beside),
        binding=binding,
    )


def _check_profile(budget: Budget, profile: DeviceProfile | None) -> None:
    if budget.latency_ms is not None and profile is None:
        raise BudgetError(
            "a budget in ms needs times measured on the device, and none were given; make a profile there "
            "with `sentryfuse profile`, or use a ratio, MACs or memory instead"
        )
    if budget.energy_mj is not None and (profile is None or profile.mj_per_ms is None):
        reason = (
            "none was given" if profile is None else f"this one has none ({profile.energy.get('refused')})"
        )
        raise BudgetError(
            f"a budget in mJ needs a profile with energy measured on the device, and {reason}; make one with "
            "`sentryfuse profile --power auto`, or use a ratio, MACs, memory or milliseconds instead"
        )


def _limits(
    layout: Layout,
    dense: Cost,
    budget: Budget,
    saved_macs: NDArray[np.int64],
    saved_shells: NDArray[np.int64],
    saved_params: NDArray[np.int64],
) -> list[tuple[str, int, NDArray[np.int64]]]:
    """Every limit as (name, what must be saved, what has been saved after each removal)."""
    found: list[tuple[str, int, NDArray[np.int64]]] = []
    if budget.ratio is not None:  # any can be met, since a block may lose all it has
        of = dense.prunable_macs if budget.protocol == "present" else count(layout).prunable_macs
        found.append(("ratio", math.ceil(dense.prunable_macs - (1 - _exact(budget.ratio)) * of), saved_macs))
    saved_macs = saved_macs + saved_shells
    most_macs = int(saved_macs[-1]) if len(saved_macs) else 0
    most_params = int(saved_params[-1]) if len(saved_params) else 0
    if budget.macs is not None:
        over = math.ceil(dense.macs - _exact(budget.macs))
        if over > most_macs:
            raise BudgetError(
                f"no sub-network runs in {budget.macs} MAC; the smallest needs {dense.macs - most_macs}"
            )
        found.append(("macs", over, saved_macs))
    if budget.memory_mb is not None:
        over = math.ceil(dense.params - _exact(budget.memory_mb) * 10**6 / BYTES_PER_WEIGHT)
        if over > most_params:
            least = math.ceil((dense.params - most_params) * BYTES_PER_WEIGHT / 1000) / 1000
            raise BudgetError(
                f"no sub-network fits {budget.memory_mb} MB of weights; the smallest needs {least} MB"
            )
        found.append(("memory_mb", over, saved_params))
    return found


def _time_limits(
    layout: Layout,
    names: tuple[str, ...],
    budget: Budget,
    profile: DeviceProfile,
    saved_ms: NDArray[np.float64],
) -> list[tuple[str, float, NDArray[np.float64]]]:
    """As `_limits`: in milliseconds that are exceeded by one plan in twenty, and in millijoules."""
    median_ms = profile.median_ms(layout, names)
    most_ms = float(saved_ms[-1]) if len(saved_ms) else 0.0
    found: list[tuple[str, float, NDArray[np.float64]]] = []

    def limit(name: str, asked: float | None, dense: float, saved: float, message: str) -> None:
        """`dense` is needed without a cut, `saved` of it with one millisecond less."""
        if asked is None:
            return
        if dense - saved * most_ms > asked:
            least = math.ceil(1000 * (dense - saved * most_ms)) / 1000
            raise BudgetError(message.format(asked=f"{asked:g}", least=f"{least:g}"))
        found.append((name, dense - asked, saved * saved_ms))

    safe, mj_per_ms = profile.safe_factor, profile.mj_per_ms or 0.0
    limit(
        "latency_ms", budget.latency_ms, safe * median_ms, 1.0,
        "no sub-network answers in {asked} ms on this device; the fastest needs {least} ms",
    )  # fmt: skip
    limit(
        "energy_mj", budget.energy_mj, mj_per_ms * median_ms, mj_per_ms / safe,
        "no sub-network takes {asked} mJ or less on this device; the thriftiest needs {least} mJ",
    )  # fmt: skip
    return found


def check_plan(layout: Layout, plan: Plan) -> None:
    """Refuse a plan that was made for another model.

    Raises:
        ConfigError: unknown sensors, blocks or units, or blocks that run and are not in the plan.
    """
    live = {b.name: b for step in layout.route(plan.present) for b in step.blocks}
    if plan.readout_alone:
        return
    if live.keys() != plan.kept.keys():
        other = sorted(live.keys() ^ plan.kept.keys())[0]
        raise ConfigError(f"the plan and the model disagree on block {other}; plan this model again")
    for name, kept in plan.kept.items():
        if kept and (list(kept) != sorted(set(kept)) or kept[0] < 0 or kept[-1] >= live[name].units):
            raise ConfigError(
                f"the plan keeps units of {name} that the model does not have "
                f"({live[name].units} units); plan this model again"
            )


def _exact(value: float) -> Fraction:
    """The number as a person reads it, so that 0.1 of 10 is 1 and no rounding breaks a limit."""
    return Fraction(str(float(value)))
