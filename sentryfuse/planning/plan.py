"""Importance and a budget -> a frozen decision. Looks, never touches a model. Torch-free.

All units of the blocks that run are put in one order of removal, cheapest loss per MAC saved first. A
budget only says how far along that order to go, so plans nest by construction. With its last unit a block is
gone; where none is left the readout answers alone or, without one, what embeds and the head.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentryfuse.errors import BudgetError, ConfigError
from sentryfuse.planning.cost import BYTES_PER_WEIGHT, count, with_beside
from sentryfuse.planning.importance import Importance
from sentryfuse.planning.layout import KINDS, Block, Layout, Span, Step
from sentryfuse.planning.profile import DeviceProfile
from sentryfuse.types import Budget, Cost, Plan, check_present

STEP = 8  # FFN widths are multiples of it
# Without a profile: norm, turning and sums of a block take about as long as so many MACs [MAC]. From
# onnxruntime on one server processor: nodes times 2.5 us at 18 GMAC/s, rounded down.
OVERHEAD = {"heads": 400_000.0, "ffn": 200_000.0}


@dataclass(frozen=True)
class Removal:
    """The order of removal of one block: after `i` removals the units `order[taken[i]:]` are left."""

    block: Block
    order: NDArray[np.intp]
    taken: NDArray[np.intp]  # units gone after each removal
    macs: NDArray[np.int64]  # prunable MACs saved by each removal
    shell_macs: NDArray[np.int64]  # and what goes with the last unit, which the ratio does not count
    params: NDArray[np.int64]
    price: NDArray[np.float64]  # importance lost per MAC saved, overhead among them, rising
    ms: NDArray[np.float64]  # time saved by each removal, 0 without a profile


def plan_layout(
    layout: Layout,
    importance: Importance,
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
            a kind (heads, FFN channels), of any scale.
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
        block takes beside products (`OVERHEAD`, or as a profile has it); our choice.
    """
    names = check_present(present, layout.names)
    removals = removals_of(layout, names, importance, profile)
    try:
        return follow(layout, names, removals, budget=budget, scorer=scorer, profile=profile, beside=beside)
    except BudgetError:
        measured = budget.latency_ms is not None or budget.energy_mj is not None
        if beside is None or measured:  # nobody has measured what the readout takes alone
            raise
        if budget.macs is not None and budget.macs < beside.macs:
            raise BudgetError(
                f"nothing answers in {budget.macs} MAC; the readout alone needs {beside.macs}"
            ) from None
        if budget.memory_mb is not None and budget.memory_mb < beside.weights_mb:
            least = math.ceil(1000 * beside.weights_mb) / 1000
            raise BudgetError(
                f"nothing fits {budget.memory_mb} MB of weights; the readout alone needs {least} MB"
            ) from None
        return _alone(layout, names, budget, scorer, beside, next(iter(budget.limits)))


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


def _about(prices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Prices to a hundredth of an octave: whole blocks often cost the same but for rounding of scores.

    Torch and a device then remove them in the same order, that of the computation.
    """
    logarithms: NDArray[np.float64] = np.log2(np.maximum(prices, 1e-300))
    rounded: NDArray[np.float64] = np.exp2(logarithms.round(2))
    return rounded


def _exact(value: float) -> Fraction:
    """The number as a person reads it, so that 0.1 of 10 is 1 and no rounding breaks a limit."""
    return Fraction(str(float(value)))


def removals_of(
    layout: Layout, present: tuple[str, ...], importance: Importance, profile: DeviceProfile | None
) -> list[Removal]:
    """What every block that runs can lose, priced by the importance lost per MAC; as `plan_layout`."""
    spans = layout.spans(present)
    live = [
        (block, spans[step.name], _times(layout, block, step, spans[step.name], profile))
        for step in layout.route(present)
        for block in step.blocks
    ]
    exchange = {}
    for kind in KINDS:  # the two kinds have no common scale: equal mean per MAC
        own = [(b, at, times) for b, at, times in live if b.kind == kind]
        if own:
            values = np.concatenate([_checked(importance, b) for b, _, _ in own])
            macs = sum(b.macs(layout.d_model, layout.attention, at) + t.overhead for b, at, t in own)
            exchange[kind] = macs / max(float(values.sum()), 1e-30)
    return [
        _removal(layout, block, span, _checked(importance, block) * exchange[block.kind], times)
        for block, span, times in live
    ]


class _Times(NamedTuple):
    """What a block takes beside counted work."""

    per_mac_ms: float  # 0 without a profile
    of_block_ms: float
    overhead: float  # [MAC]


def _times(layout: Layout, block: Block, step: Step, span: Span, profile: DeviceProfile | None) -> _Times:
    if profile is None:
        return _Times(0.0, 0.0, OVERHEAD[block.kind])
    per_mac = profile.ms_per_mac(layout, step, span, block.kind)
    of_block = profile.ms_per_block(layout, step, span)
    return _Times(per_mac, of_block, of_block / per_mac if per_mac > 0 else OVERHEAD[block.kind])


def _checked(importance: Importance, block: Block) -> NDArray[np.float64]:
    values = np.asarray(importance.get(block.name, ()), np.float64)
    if values.shape != (block.units,) or not np.isfinite(values).all():
        raise ConfigError(
            f"the importance of block {block.name} has shape {values.shape} or is not finite; "
            f"give {block.units} finite numbers"
        )
    return values


def _removal(layout: Layout, block: Block, span: Span, values: NDArray[np.float64], times: _Times) -> Removal:
    order, taken = _order(block, values)
    units = block.units - np.concatenate([[0], taken])
    groups: Any = np.zeros(len(units), np.intp)
    if block.capacity:  # all are computed at the width of the widest, and none is left out before the last
        n = max(block.groups) + 1
        groups = np.where(units > 0, n, 0)
        widths = np.concatenate([[max(np.bincount(block.groups))], _widths(block)])
        macs = np.where(units > 0, block.macs_of(layout.d_model, layout.attention, span, n * widths, n), 0)
    else:
        if block.groups:  # a group lives until the last of its units is removed
            last = np.zeros(max(block.groups) + 1, np.intp)
            np.maximum.at(last, np.asarray(block.groups)[order], np.arange(block.units))
            groups = (last >= (block.units - units)[:, None]).sum(1)
        macs = block.macs_of(layout.d_model, layout.attention, span, units, groups)
    shell_macs, shell_params = block.shell_of((), span.leaving)
    at_last = np.arange(1, len(units)) == len(taken)
    saved, shells = -np.diff(macs), np.where(at_last, shell_macs, 0)
    params = -np.diff(block.params_of(layout.d_model, units, groups)) + np.where(at_last, shell_params, 0)
    lost = np.diff(np.concatenate([[0.0], np.cumsum(values[order])[taken - 1]]))
    ms = saved * times.per_mac_ms + np.where(at_last, times.of_block_ms, 0.0)  # it knows shells as steps
    price = _about(_rising(lost, saved + shells + np.where(at_last, times.overhead, 0.0)))
    return Removal(block, order, taken, saved, shells, params, price, ms)


def _order(block: Block, values: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Units in the order in which they go, and how many are gone after each removal; at last all."""
    order = np.argsort(values, kind="stable")
    if block.capacity:
        return _evenly(block, values)
    if block.kind == "heads":
        return order, np.arange(1, block.units + 1)
    if block.active:
        core = _core(block, values)
        order = np.concatenate([order[~np.isin(order, core)], core])
    return order, np.arange(block.units % STEP or STEP, block.units + 1, STEP)


def _evenly(block: Block, values: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Order of removal where experts are computed side by side: all become narrower together.

    Their products are as wide as the widest of them, and to drop one saves nothing, since its tokens go to
    the others.

    Returns:
        Order of removal, and units gone after each removal.
    """
    group_of = np.asarray(block.groups)
    best = np.argsort(-values, kind="stable")
    rank = np.empty(block.units, np.intp)  # of a channel within its expert, 0 is the best
    for group in range(group_of.max() + 1):
        own = best[group_of[best] == group]
        rank[own] = np.arange(len(own))
    return np.lexsort((values, -rank)), np.array([(rank >= width).sum() for width in _widths(block)], np.intp)


def _widths(block: Block) -> NDArray[np.intp]:
    """Channels of the widest expert after each removal, where all become narrower together."""
    widest = int(np.bincount(block.groups).max())
    return np.arange((widest - 1) // STEP * STEP, -1, -STEP)


def _core(block: Block, values: NDArray[np.float64]) -> NDArray[np.intp]:
    """The channels of experts that go last: the best of as few experts as hold `STEP` of them."""
    best = np.argsort(-values, kind="stable")
    group_of = np.asarray(block.groups)[best]
    sizes = np.bincount(group_of)
    worth = np.zeros(len(sizes))
    for group in range(len(sizes)):
        worth[group] = values[best[group_of == group][:STEP]].sum()
    # an expert that holds them alone, the worthiest of those; or else the widest ones
    ranked = np.lexsort((-worth, -np.minimum(sizes, STEP)))
    wanted = ranked[: int(np.searchsorted(np.cumsum(sizes[ranked]), STEP)) + 1]
    return best[np.isin(group_of, wanted)][:STEP][::-1]


def _rising(lost: NDArray[np.float64], saved: NDArray[np.float64]) -> NDArray[np.float64]:
    """Price of each removal on the lower convex hull, so that a block's own order is kept."""
    pools: list[tuple[float, float, int]] = []
    for loss, gain in zip(lost.tolist(), saved.tolist(), strict=True):
        pool = (loss, float(gain), 1)
        while pools and pools[-1][0] * pool[1] >= pool[0] * pools[-1][1]:
            last = pools.pop()
            pool = (last[0] + pool[0], last[1] + pool[1], last[2] + pool[2])
        pools.append(pool)
    return np.repeat([p[0] / p[1] for p in pools], [p[2] for p in pools])
