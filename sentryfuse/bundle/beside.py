"""The readout of a bundle: rebuilt, and asked once for every sensor and for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.bundle.container import Inconsistent
from sentryfuse.bundle.manifest import Manifest
from sentryfuse.errors import DataError
from sentryfuse.readout import Mixture
from sentryfuse.statistics import feature_names


def read_mixture(manifest: Manifest, tensors: Mapping[str, NDArray[Any]]) -> Mixture | None:
    """The readout that a manifest describes.

    Raises:
        Inconsistent: it does not fit the layout or its own tensors, or answers with numbers that are not
            finite.
    """
    if manifest.readout is None:
        if tensors:
            raise Inconsistent(f"holds a tensor readout.{min(tensors)} and no readout")
        return None
    try:
        mixture = Mixture.from_tensors(manifest.readout, tensors)
    except DataError as error:
        raise Inconsistent(f"has an unusable readout: {error}") from None
    readout, sizes = mixture.readout, {}
    for m in manifest.layout.modalities:
        sizes[m.name] = len(feature_names(m))
    if not set(sizes) <= set(readout.sensors) or (readout.classes, readout.target) != (
        manifest.classes,
        manifest.target,
    ):
        raise Inconsistent("has a readout of other sensors, classes or another task")
    names = tuple(sizes)
    for present in (names, *((name,) for name in names)):
        given = {name: np.zeros((1, sizes[name]), np.float32) for name in present}
        if not np.isfinite(readout.log_probabilities(given, present)).all():
            raise Inconsistent(f"has a readout that cannot answer with {'+'.join(present)}")
    return mixture
