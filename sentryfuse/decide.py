"""What stays: one function for models on the workstation and bundles on the device."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sentryfuse.bundle import Bundle
from sentryfuse.errors import ConfigError
from sentryfuse.planning.profile import DeviceProfile
from sentryfuse.types import Budget, Plan

if TYPE_CHECKING:
    from sentryfuse.model.pretrained import SentryModel
    from sentryfuse.pruning import Scorer


def plan(
    model: SentryModel | Bundle,
    present: Iterable[str] | None = None,
    budget: Budget | None = None,
    *,
    scorer: Scorer | None = None,
    profile: DeviceProfile | None = None,
) -> Plan:
    """Decide which units of a model or a bundle stay; a dry run that changes nothing.

    Args:
        model: trained or pruned, or a bundle, which needs no torch; both decide alike.
        present: names of the sensors that are on; `None` means all.
        budget: what one window may cost; `None` means everything.
        scorer: ranks the units; `None` means the model's gate, the only one that a bundle has.
        profile: times measured on the device; needed for a budget in milliseconds.

    Returns:
        The plan; `prune` executes it on a model, `Session` on a bundle.

    Raises:
        BudgetError: no sub-network fits; the message names the nearest budget that does.
        ConfigError: unknown sensor names, something else than a model or bundle, or a scorer for a bundle.
    """
    if isinstance(model, Bundle):
        if scorer is not None:
            raise ConfigError(f"a bundle is ranked by its own gate, not by {scorer.name}; leave scorer out")
        return model.plan(present, budget, profile)
    if not hasattr(model, "gate"):
        raise ConfigError(
            f"a plan is made of a model or a bundle, got {type(model).__name__}; "
            "open the folder with sf.from_pretrained, the file with sf.load_bundle"
        )
    from sentryfuse.pruning import make_plan

    return make_plan(model, present, budget, scorer=scorer, profile=profile)
