"""What every block can lose: units in the order in which they go, with the price of each removal."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentryfuse.errors import ConfigError
from sentryfuse.planning.importance import Importance
from sentryfuse.planning.layout import KINDS, Block, Layout, Span, Step
from sentryfuse.planning.profile import DeviceProfile

STEP = 8  # FFN widths are multiples of it
REMEMBERED = 16  # sets of sensors; of some 60 kB for a model of a million weights
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


class Priced:
    """Remembers what blocks can lose, which no budget changes, for the sensors that were asked for last.

    Args:
        layout: of the model.
        importance: sensors that are on, in the model's order -> importance of every unit.
    """

    def __init__(self, layout: Layout, importance: Callable[[tuple[str, ...]], Importance]) -> None:
        self._layout, self._importance = layout, importance
        self._lock = Lock()
        self._found: OrderedDict[object, tuple[list[Removal], DeviceProfile | None]] = OrderedDict()

    def removals(self, present: tuple[str, ...], profile: DeviceProfile | None) -> list[Removal]:
        """As `removals_of`; may be asked from any thread."""
        key = (present, id(profile))  # which is held, so that no other gets its identity
        with self._lock:
            found = self._found.get(key)
            if found is not None:
                self._found.move_to_end(key)
                return found[0]
        made = removals_of(self._layout, present, self._importance(present), profile)
        with self._lock:
            self._found[key] = made, profile
            if len(self._found) > REMEMBERED:
                self._found.popitem(last=False)
        return made


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


def _about(prices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Prices to a hundredth of an octave: whole blocks often cost the same but for rounding of scores.

    Torch and a device then remove them in the same order, that of the computation.
    """
    logarithms: NDArray[np.float64] = np.log2(np.maximum(prices, 1e-300))
    rounded: NDArray[np.float64] = np.exp2(logarithms.round(2))
    return rounded
