"""A plan for people and for programs: what was asked, what it got, what stays."""

from __future__ import annotations

from typing import Any

from sentryfuse.cli.output import Output
from sentryfuse.planning.cost import count
from sentryfuse.planning.layout import Layout
from sentryfuse.planning.profile import DeviceProfile
from sentryfuse.types import Plan, sensor_label


def plan_json(plan: Plan, layout: Layout, profile: DeviceProfile | None = None) -> dict[str, Any]:
    """`Plan.to_json` and, limit by limit, what was `asked`, what it `got` and the `slack` between.

    Args:
        plan: the decision.
        layout: of the model it was made for.
        profile: of the device; adds what a window is expected to take there.
    """
    asked = plan.budget.limits
    whole = plan.dense if plan.budget.protocol == "present" else count(layout)
    values = {
        "ratio": 1 - plan.cost.prunable_macs / whole.prunable_macs if whole.prunable_macs else 0.0,
        "macs": plan.cost.macs,
        "memory_mb": plan.cost.weights_mb,
    }
    expected: dict[str, Any] = {}
    if profile is not None:
        p95, energy_mj = _expected(plan, layout, profile)
        values["latency_ms"] = p95
        expected = {"latency_ms": {"p95": p95, "label": "modelled from times of this device"}}
        if energy_mj is not None:
            values["energy_mj"] = energy_mj
            label = f"modelled from times and power of this device ({profile.energy.get('label')})"
            expected["energy_mj"] = {"median": energy_mj, "label": label}
    got = {name: values[name] for name in asked}
    slack = {
        name: got[name] - limit if name == "ratio" else limit - got[name] for name, limit in asked.items()
    }
    return {**plan.to_json(), "asked": asked, "got": got, "slack": slack, "expected": expected}


def _expected(plan: Plan, layout: Layout, profile: DeviceProfile) -> tuple[float, float | None]:
    """95th percentile of a window [ms], and its energy [mJ] where that was measured."""
    kept, rate = plan.kept, profile.mj_per_ms
    if plan.readout_alone:
        alone_ms = profile.readout_ms(plan.present)
        if alone_ms is not None:
            return profile.p95_factor * alone_ms, None if rate is None else rate * alone_ms
        # not timed: at most what it takes beside embeddings and a head
        kept = {block.name: () for step in layout.route(plan.present) for block in step.blocks}
    return profile.p95_ms(layout, plan.present, kept), profile.energy_mj(layout, plan.present, kept)


def show_plan(output: Output, facts: dict[str, Any], layout: Layout) -> None:
    """Print a plan: block by block, then what it costs beside the dense model."""
    output.table(
        f"plan {facts['plan_id']}, {sensor_label(facts['present'], layout.names)}",
        ("block", "kind", "kept", "of"),
        [
            (name, layout.blocks[name].kind, len(kept), layout.blocks[name].units)
            for name, kept in facts["kept"].items()
        ],
    )
    cost, dense = facts["cost"], facts["dense"]
    output.table(
        f"binding: {facts['binding']}",
        ("", "MMAC", "prunable MMAC", "weights", "weights [MB]"),
        [
            (
                name,
                c["macs"] / 1e6,
                c["prunable_macs"] / 1e6,
                c["params"],
                c["weights_mb"],
            )
            for name, c in (("got", cost), ("dense", dense))
        ],
    )
    for name, limit in facts["asked"].items():
        output.line(
            f"{name}: asked {limit:g}, got {facts['got'][name]:g}"
            + (f" ({facts['budget']['protocol']})" if name == "ratio" else "")
        )
