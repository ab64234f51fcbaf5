"""Bundles that differ from a golden one, whole and with digests of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sentryfuse.bundle import save_bundle
from sentryfuse.bundle.container import open_container
from sentryfuse.readout import Mixture, fit_readout
from sentryfuse.readout.mixture import USUAL
from sentryfuse.statistics import features
from tests.tiny import GOLDEN, tiny_windows

GOLDEN_BUNDLE = GOLDEN / "tiny-v3.bundle"
Array = NDArray[np.float32]


def rewrite(path: Path, change: Callable[[str, Array], Array], base: Path = GOLDEN_BUNDLE) -> Path:
    """Write a bundle whose weights are changed.

    Args:
        path: where to.
        change: name and values of a weight -> its new values.
        base: what is changed.
    """
    with open_container(base) as container:
        full = json.loads(container.manifest)
        manifest = {n: v for n, v in full.items() if n not in ("format", "digests")}
        tensors = container.tensors()
    made = {
        name: np.ascontiguousarray(change(name.removeprefix("weights."), values), np.float32)
        if name.startswith("weights.")
        else values
        for name, values in tensors.items()
    }
    save_bundle(path, manifest=manifest, tensors=made)
    return path


def favour(path: Path, share: float) -> Path:
    """A bundle that gives other probabilities: the bias of the first class is moved by `share`."""

    def moved(name: str, values: Array) -> Array:
        return values + np.array([share, 0, 0], np.float32) if name == "head.classify.bias" else values

    return rewrite(path, moved)


def overflowing(path: Path, by: float = 4e17) -> Path:
    """A bundle whose numbers overflow where a sensor moves five times as much as in its training.

    Args:
        path: where to.
        by: how much; from 1e19 on it overflows with any window.
    """

    def shrunk(name: str, values: Array) -> Array:
        return values / np.float32(by) if name == "embed.acc.within" else values

    return rewrite(path, shrunk)


def with_readout(path: Path, *, normalise: Literal["population", "person"] = "population") -> Path:
    """A bundle with a readout beside its transformer, fitted here; without trees."""
    windows = tiny_windows(144)
    seen = {m.name: features(m, windows.raw[m.name]) for m in windows.modalities}
    fitted = fit_readout(seen, windows.y, windows.subject, windows.classes, normalise=normalise, trees=False)
    mixture = Mixture(fitted.readout, np.tile(np.array(USUAL), (len(windows.modalities), 1)))
    with open_container(GOLDEN_BUNDLE) as container:
        full = json.loads(container.manifest)
        tensors = container.tensors()
    manifest = {n: v for n, v in full.items() if n not in ("format", "digests")}
    tensors |= {f"readout.{name}": value for name, value in mixture.tensors().items()}
    save_bundle(path, manifest={**manifest, "readout": mixture.settings()}, tensors=tensors)
    return path
