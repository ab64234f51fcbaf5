"""The result of one window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.runtime.answers import answer_row
from sentryfuse.stream import Verdict
from sentryfuse.target import CLASSES, Target
from sentryfuse.types import Cost, Plan


class Status(StrEnum):
    """How far an answer can be relied on.

    OK: of this window, all sensors, within the budget. DEGRADED: of this window, but with sensors absent or
    over the budget; the reason says which. STALE: no answer of this window in time: the last one is
    repeated, or it came later than the largest age allows. REFUSED: no sensor is there, so there is no
    answer. FAULT: an error; there is no answer.
    """

    OK = "OK"
    DEGRADED = "DEGRADED"
    STALE = "STALE"
    REFUSED = "REFUSED"
    FAULT = "FAULT"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result:
    """One window of the stream, answered or not. Every window has exactly one.

    Attributes:
        window_id: 0, 1, 2, ... without a gap.
        end_s: where the window ends, on the source's clock [s].
        at_s: when the result was made, `time.monotonic` [s].
        status: see `Status`.
        reason: why it is not OK, one sentence; empty for OK.
        present: sensors that the answer is made of.
        reused: those of them whose tokens are those of an earlier window, since nothing had changed.
        verdicts: every sensor -> why it is used or not.
        answer: name of the class, number, or labels joined by +; `None` without an answer.
        probabilities: or numbers, `(K,)`; `None` without an answer.
        plan: the sub-network that answered; `None` without an answer.
        plan_id: its digest.
        latency_ms: of the sub-network alone [ms].
        delay_ms: from the window being cut to this [ms].
        age_s: how old the answer is, from the end of its window to now; of the last one, to the end of this
            window, where it is repeated (STALE) or there is none (REFUSED, FAULT); on the source's clock [s].
        energy_label: how energy is known, such as "measured-battery"; "none" without a meter.
        classes: names of the K classes.
        bundle: beginning of the digest of the bundle that gave the answer; without one, of that in force.
    """

    window_id: int
    end_s: float
    at_s: float
    status: Status
    reason: str
    present: tuple[str, ...]
    reused: tuple[str, ...]
    verdicts: Mapping[str, Verdict]
    answer: str | float | None
    probabilities: NDArray[np.float32] | None
    plan: Plan | None
    plan_id: str | None
    latency_ms: float | None
    delay_ms: float
    age_s: float | None
    energy_label: str
    classes: tuple[str, ...] = ()
    target: Target = CLASSES
    bundle: str = ""

    @property
    def cost(self) -> Cost | None:
        """What the sub-network costs; `None` without an answer."""
        return None if self.plan is None else self.plan.cost

    @property
    def confidence(self) -> float | None:
        """Probability of the answer; `None` without an answer, and where it is a number or several labels."""
        if self.probabilities is None or not self.target.of_classes:
            return None
        return float(self.probabilities.max())

    def to_json(self) -> dict[str, Any]:
        """A dictionary for `json.dumps`: the columns of `runtime.answers`, and what else is known."""
        plan = self.plan
        return {
            "window": self.window_id,
            "time_s": round(self.end_s, 6),
            **answer_row(
                self.classes,
                self.target,
                answer=self.answer,
                probabilities=self.probabilities if self.classes else None,
                sensors=self.present,
                plan_id=self.plan_id,
            ),
            "window_id": self.window_id,
            "end_s": round(self.end_s, 6),
            "at_s": round(self.at_s, 6),
            "status": str(self.status),
            "reason": self.reason,
            "present": list(self.present),
            "reused": list(self.reused),
            "verdicts": {name: str(verdict) for name, verdict in self.verdicts.items()},
            "probabilities": None if self.probabilities is None else self.probabilities.tolist(),
            "plan_id": self.plan_id,
            "macs": None if plan is None else plan.cost.macs,
            "weights_mb": None if plan is None else plan.cost.weights_mb,
            "latency_ms": self.latency_ms,
            "delay_ms": self.delay_ms,
            "age_s": self.age_s,
            "energy_label": self.energy_label,
            "bundle": self.bundle,
        }
