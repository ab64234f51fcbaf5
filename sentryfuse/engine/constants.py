"""What a sub-network knows because it knows which sensors are present: computed once per plan, in numpy.

The same formulas as in `sentryfuse.model.constants`; every export checks that the two agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.planning.layout import Step

Array = NDArray[np.float32]


def bank_tokens(step: Step, present: Sequence[str], weights: Mapping[str, Any]) -> Array:
    """Tokens that stand for an absent sensor, `(1, P, D)`."""
    on = np.array([part.removeprefix("window.") in present for part in step.parts], np.float32)
    tokens: Array = weights[f"{step.name}.base"] + on @ weights[f"{step.name}.given"]
    return tokens[None]


def codes(step: Step, lengths: Sequence[int], weights: Mapping[str, Any]) -> tuple[Array, Array]:
    """Scale `(L, 1)` and shift `(L, D)` of every token; `lengths` as `Layout.part_lengths` gives them."""
    w = {name.removeprefix(f"{step.name}."): x for name, x in weights.items()}
    on = np.array([n > 0 for n in lengths], np.float32)
    hidden = np.maximum(w["hidden.weight"] @ on + w["hidden.bias"], 0)
    scale = 2 / (1 + np.exp(-(w["budget.weight"] @ hidden + w["budget.bias"])))
    shift = [w["temporal"][:n] + w["modality"][i] for i, n in enumerate(lengths)]
    return np.repeat(scale, lengths)[:, None].astype(np.float32), np.concatenate(shift).astype(np.float32)


def part_shares(lengths: Sequence[int]) -> Array:
    """The matrix that averages the tokens of each part, `(M, L)`."""
    part = np.repeat(np.arange(len(lengths)), lengths)
    shares: Array = (np.arange(len(lengths))[:, None] == part) / np.asarray(lengths, np.float32)[:, None]
    return shares.astype(np.float32)
