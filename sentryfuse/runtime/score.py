"""A bundle and a recording -> scores, without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.bundle import Bundle
from sentryfuse.data import Windows
from sentryfuse.data.matching import matched
from sentryfuse.data.scoring import Way, prepared, score_all
from sentryfuse.engine.session import Session
from sentryfuse.planning.profile import DeviceProfile
from sentryfuse.readout.recording import on_recording
from sentryfuse.types import Budget, Plan


class BundleAnswer:
    """Answers batches for any plan; one session per plan, built when first needed.

    Args:
        bundle: what to cut from.
        threads: of the engine.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 2) -> None:
        self.bundle, self.threads = bundle, threads
        self._sessions: dict[str, Session] = {}

    def __call__(self, windows: Mapping[str, NDArray[np.float32]], plan: Plan) -> NDArray[np.float32]:
        """Probabilities, `(B, n_classes)`."""
        session = self._sessions.get(plan.plan_id)
        if session is None:
            session = self._sessions[plan.plan_id] = Session(self.bundle, plan, threads=self.threads)
        return session.transformer(windows)


def score(
    bundle: Bundle,
    windows: Windows,
    *,
    split: str = "test",
    present: Sequence[Sequence[str] | None] = (None,),
    missing_rates: Sequence[float | None] = (None,),
    budgets: Sequence[Budget] = (Budget(ratio=0.0),),
    seed: int = 0,
    threads: int = 2,
    profile: DeviceProfile | None = None,
) -> list[dict[str, Any]]:
    """Score a bundle on a recording, one row per combination; the rows of `evaluate`.

    Args:
        bundle: of `load_bundle`.
        windows: the recording.
        split: which part of it.
        present: sets of sensor names that are on; `None` means all.
        missing_rates: share of those missing in every window (fixed masks); `None` means none.
        budgets: limits, each holding for every window.
        seed: of the masks.
        threads: of the engine.
        profile: times measured on the device; needed for budgets in milliseconds.

    Returns:
        One dictionary per combination.

    Raises:
        ConfigError: unknown names, or a recording that does not belong to the bundle.
        DataError: the recording has no labels.
        BudgetError: a budget no sub-network reaches.
    """
    windows = matched(bundle.layout.modalities, bundle.classes, windows, target=bundle.target)
    windows = prepared(windows, bundle)
    ways = [Way(b, "gate", partial(bundle.plan, budget=b, profile=profile)) for b in budgets]
    return score_all(
        windows,
        split=split,
        present=present,
        missing_rates=missing_rates,
        ways=ways,
        answer=BundleAnswer(bundle, threads=threads),
        seed=seed,
        beside=on_recording(bundle.mixture, windows, windows.indices(split)),
    )
