"""Whether a bundle can hold a model, asked before the model is trained for an hour."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from sentryfuse.bundle.container import DTYPES, FORMAT, MAX_BYTES, Inconsistent, check_header
from sentryfuse.bundle.manifest import read_manifest
from sentryfuse.bundle.routes import check_routes
from sentryfuse.bundle.sizes import check_sizes
from sentryfuse.errors import BundleError, ConfigError
from sentryfuse.graph import Misfit
from sentryfuse.planning.layout import Layout
from sentryfuse.target import CLASSES, Target

DIGEST = "0" * 64
NUMBER = 1.2345678901234567e-30  # as long as any


def check_exportable(
    layout: Layout,
    classes: Sequence[str],
    shapes: Mapping[str, tuple[int, ...]],
    target: Target = CLASSES,
) -> None:
    """Refuse a model that `load_bundle` would refuse for its size, without writing anything.

    A readout, which is fitted after training, is not counted; it is small beside what the limits leave.

    Args:
        layout: of the model.
        classes: names of the labels.
        shapes: of all tensors, by their names in the bundle.
        target: what is asked for.

    Raises:
        ConfigError: too many sensors, steps or tensors, or too large ones; the message names the limit.
    """
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "layout": layout.to_json(),
        "classes": list(classes),
        "normalise": "subject",  # the longer one
        "subject_floor": {m.name: [NUMBER] * m.n_channels for m in layout.modalities},
        "subject_prior": {m.name: [[NUMBER] * m.n_channels] * 4 for m in layout.modalities},
        "readout": None,
        "about": {},
        "digests": dict.fromkeys(shapes, DIGEST),
    }
    if not target.of_classes:  # it has its means and deviations once it is trained
        n = len(classes)
        manifest["target"] = asdict(replace(target, mean=(0.0,) * n, std=(1.0,) * n, gain=(), bias=()))
    size, at = DTYPES["F32"].itemsize, 0
    header: dict[str, Any] = {"__metadata__": {"manifest": (text := json.dumps(manifest))}}
    for name, shape in shapes.items():
        end = at + size * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, end]}
        at = end
    try:
        check_header(json.dumps(header), len(header))
        if at > MAX_BYTES:
            raise Inconsistent(f"has {at} bytes of weights, more than the limit {MAX_BYTES}")
        read = read_manifest(text)
        check_routes(read.layout)
        check_sizes(read.layout)
    except Misfit as error:
        raise ConfigError(
            f"this model could not be exported once trained: it {error}; say how it is written with "
            "sentryfuse.graph.emits"
        ) from None
    except BundleError as error:
        what = str(error).partition(";")[0].partition(", got ")[0]
        raise ConfigError(
            f"this model of {len(layout.modalities)} sensors could not be exported once trained: its bundle "
            f"{what}; use fewer sensors, a smaller model, or a backbone without pairs of "
            "sensors, such as maestro"
        ) from None
