"""One window from a fixed seed: what a sub-network says of it when it is built, it has to say ever after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentryfuse.bundle import Bundle

SEED = 0
RTOL, ATOL = 1e-4, 1e-5  # where the order of additions may change
Array = NDArray[np.float32]


class Probe(NamedTuple):
    """A window like those of training: noise of their mean and deviation.

    Attributes:
        windows: of every sensor, `(1, T, C)`.
        raw: the same in physical units, where `windows` are standardised by person; else `None`.
    """

    windows: Mapping[str, Array]
    raw: Mapping[str, Array] | None


def probe_of(bundle: Bundle) -> Probe:
    """The window that a bundle's sub-networks are asked about; without statistics plain noise."""
    rng = np.random.default_rng(SEED)
    windows = {
        m.name: rng.standard_normal((1, m.length, m.n_channels), dtype=np.float32)
        for m in bundle.layout.modalities
    }
    if bundle.normalise == "subject":
        raw = dict(windows)
        for name, (mean, _, _, std) in bundle.subject_prior.items():
            raw[name] = (np.asarray(mean) + np.asarray(std) * windows[name]).astype(np.float32)
        return Probe(windows, raw)
    for step in bundle.layout.steps:
        mean, std = (bundle.weights.get(f"{step.name}.normalise.{leaf}") for leaf in ("mean", "std"))
        if step.window and mean is not None and std is not None:
            windows[step.window] = (mean + std * windows[step.window]).astype(np.float32)
    return Probe(windows, None)


def differing(before: Mapping[str, Array], now: Mapping[str, Array], *, exactly: bool) -> str:
    """The first part that says something else than before; empty where none does.

    Args:
        before: part -> what it said.
        now: the same parts.
        exactly: to the last bit; else within 1e-4 of the number and 1e-5.
    """
    for part, said in before.items():
        same = said.tobytes() == now[part].tobytes()
        if not same and not exactly:
            same = np.allclose(said, now[part], rtol=RTOL, atol=ATOL, equal_nan=True)
        if not same:
            return part
    return ""
