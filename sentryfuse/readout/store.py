"""A readout as named float32 arrays and a dictionary, and back, with every shape checked.

Notation: F features · E encoded numbers · Q knots · D columns · K classes · M sensors · V nodes · L leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.errors import ConfigError, DataError
from sentryfuse.readout.discriminant import Moments
from sentryfuse.readout.encode import KINDS, Encoding, Scale
from sentryfuse.readout.joint import Joint
from sentryfuse.readout.parts import Expert, Parts, Stack, View
from sentryfuse.readout.trees import Floats, Trees
from sentryfuse.target import CLASSES, Target

if TYPE_CHECKING:
    from sentryfuse.readout.readout import Readout

VERSION = 2
_MOMENTS = ("count", "mean", "offset", "within")
_LARGEST_PART = 1e4  # of a logit that one leaf may add
_MOST_NODES = 1 << 24  # what float32 can count


def tensors_of(readout: Readout) -> dict[str, Floats]:
    """All arrays by name; symmetric matrices as their lower half."""
    out: dict[str, NDArray[Any]] = {"log_prior": readout.log_prior, "pool": readout.pool}
    parts = readout.parts
    for s, scale in parts.scales.items():
        out[f"scale.{s}.mean"] = scale.mean
        out[f"scale.{s}.inverse"] = scale.inverse
    for i, view in enumerate(parts.views):
        for s, encoding in view.encodings.items():
            out[f"view.{i}.knots.{s}"] = encoding.knots
        if view.joint is not None:
            for s, p in zip(view.encodings, view.joint.projections, strict=True):
                out[f"view.{i}.projection.{s}"] = p
            out[f"view.{i}.level"] = view.joint.level
            _put(out, f"view.{i}", view.joint.moments)
    for s, expert in parts.experts.items():
        out[f"expert.{s}.weights"] = expert.weights
        out[f"expert.{s}.bias"] = expert.bias
    _put(out, "stack", parts.stack.moments)
    for kind, ensembles in (("trees", parts.trees), ("boosted", parts.boosted)):
        for j, trees in enumerate(ensembles.values()):
            for name, array in trees.arrays().items():
                out[f"{kind}.{j}.{name}"] = array
    return {name: np.ascontiguousarray(a, dtype=np.float32) for name, a in out.items() if a.size}


def settings_of(readout: Readout) -> dict[str, Any]:
    """Everything that is not an array."""
    parts = readout.parts
    return {
        "version": VERSION,
        "sensors": list(readout.sensors),
        "classes": list(readout.classes),
        "target": asdict(readout.target),
        "person_weight": readout.person_weight,
        **({"own_signals": True} if readout.own_signals else {}),
        "features": {s: len(scale.mean) for s, scale in parts.scales.items()},
        "views": [
            {
                "kind": next((e.kind for e in v.encodings.values()), "plain"),
                "sensors": list(v.encodings),
                "joint_shrink": None if v.joint is None else v.joint.shrink,
            }
            for v in parts.views
        ],
        "experts": {s: e.view for s, e in parts.experts.items()},
        "stack": {"owner": parts.stack.owner.tolist(), "shrink": parts.stack.shrink},
        **{
            kind: [{"sensors": list(names), "depth": t.depth} for names, t in ensembles.items()]
            for kind, ensembles in (("trees", parts.trees), ("boosted", parts.boosted))
        },
    }


def parts_from(settings: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Parts:
    """Rebuild what answers.

    Args:
        settings: of `settings_of`.
        tensors: of `tensors_of`.

    Returns:
        Parts that answer as those they came from, up to float32.

    Raises:
        DataError: a missing array, another shape, or numbers that are not finite.
    """
    take = _Taker(tensors)
    sensors, k = settings["sensors"], len(settings["classes"])
    numbers = not target_from(settings).of_classes
    sizes = settings["features"]
    scales = {
        s: Scale(take(f"scale.{s}.mean", (sizes[s],)), take(f"scale.{s}.inverse", (sizes[s],)))
        for s in sensors
    }
    views = []
    for i, given in enumerate(settings["views"]):
        if given["kind"] not in KINDS:
            raise DataError(
                f"the readout names the encoding {given['kind']!r}; there are {', '.join(KINDS)}; "
                "export it again"
            )
        encodings = {
            s: Encoding(given["kind"], take(f"view.{i}.knots.{s}", (-1, sizes[s]))) for s in given["sensors"]
        }
        joint = None
        if given["joint_shrink"] is not None:
            widths = np.array([e.width() for e in encodings.values()], dtype=np.float64)
            projections = tuple(
                take(f"view.{i}.projection.{s}", (e.width(), -1)).astype(np.float64)
                for s, e in encodings.items()
            )
            moments = _take_moments(take, f"view.{i}", k, sum(p.shape[1] for p in projections), numbers)
            level = take(f"view.{i}.level", (len(encodings),)).astype(np.float64)
            joint = Joint(projections, moments, level, widths, float(given["joint_shrink"]))
        views.append(View(encodings, joint))
    experts = {}
    for s in sensors:
        at = settings["experts"][s]
        if not 0 <= at < len(views) or s not in views[at].encodings:
            raise DataError(
                f"the expert of {s} reads view {at!r}, which does not hold it; export the readout again"
            )
        width = views[at].encodings[s].width()
        experts[s] = Expert(at, take(f"expert.{s}.weights", (width, k)), take(f"expert.{s}.bias", (k,)))
    owner = np.array(settings["stack"]["owner"], dtype=np.intp)
    moments = _take_moments(take, "stack", k, len(owner), numbers)
    stack = Stack(moments, owner, float(settings["stack"]["shrink"]))
    trees, boosted = (
        {
            tuple(t["sensors"]): _take_trees(
                take,
                f"{kind}.{j}",
                int(t["depth"]),
                k,
                sum(sizes[s] for s in t["sensors"]),
                adds=kind == "boosted",
                numbers=numbers,
            )
            for j, t in enumerate(settings[kind])
        }
        for kind in ("trees", "boosted")
    )
    return Parts(scales, tuple(views), experts, trees, boosted, stack)


def target_from(settings: Mapping[str, Any]) -> Target:
    """What a readout was fitted for; classes where nothing is said.

    Raises:
        DataError: another kind, or numbers that do not fit the outputs.
    """
    given, k = settings.get("target"), len(settings["classes"])
    if given is None:
        return CLASSES
    try:
        numbers = (tuple(map(float, given[key])) for key in ("mean", "std", "gain", "bias"))
        target = Target(given["task"], given["unit"], *numbers)
    except (ConfigError, ValueError) as error:
        raise DataError(f"the readout is of no known task ({error}); export it again") from None
    everything = np.array([*target.mean, *target.std, *target.gain, *target.bias])
    if not (target.fits(k) and np.isfinite(everything).all() and min(target.std, default=1.0) > 0):
        raise DataError(f"the readout lacks mean or deviation of its {k} outputs; export it again")
    return target


class _Taker:
    """Arrays by name, shapes checked; -1 stands for any size."""

    def __init__(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        self._tensors = tensors

    def __call__(self, name: str, shape: tuple[int, ...]) -> Floats:
        array = self._tensors.get(name)
        if array is None and min(shape) < 1:  # arrays without a number are not stored
            array = np.zeros([max(n, 0) for n in shape], np.float32)
        if array is None:
            raise DataError(
                f"the readout lacks the array {name}; it must come with all of them; export it again"
            )
        fits = array.ndim == len(shape) and all(w in (-1, n) for w, n in zip(shape, array.shape, strict=True))
        if not fits or not np.isfinite(array).all():
            raise DataError(
                f"the array {name} has shape {array.shape}; finite numbers of shape {shape} are needed "
                "(-1: any); export the readout again"
            )
        return np.asarray(array, dtype=np.float32)


def _put(out: dict[str, NDArray[Any]], prefix: str, moments: Moments) -> None:
    for name in _MOMENTS[:-1]:
        out[f"{prefix}.{name}"] = getattr(moments, name)
    lower = np.tril_indices(len(moments.within))
    out[f"{prefix}.within"] = moments.within[lower]


def _take_moments(take: _Taker, prefix: str, k: int, d: int, numbers: bool) -> Moments:
    within = np.zeros((d, d))
    lower = np.tril_indices(d)
    within[lower] = take(f"{prefix}.within", (len(lower[0]),))
    within.T[lower] = within[lower]
    return Moments(
        take(f"{prefix}.count", (k,)).astype(np.float64),
        take(f"{prefix}.mean", (d,)).astype(np.float64),
        take(f"{prefix}.offset", (k, d)).astype(np.float64),
        within,
        numbers,
    )


def _take_trees(
    take: _Taker, name: str, depth: int, k: int, n_features: int, *, adds: bool, numbers: bool
) -> Trees:
    value = take(f"{name}.value", (-1, k))
    feature = take(f"{name}.feature", (-1,)).astype(np.int32)
    v = len(feature)
    left = take(f"{name}.left", (v,)).astype(np.int32)
    right = take(f"{name}.right", (v,)).astype(np.int32)
    root = take(f"{name}.root", (-1,)).astype(np.int32)
    leaf = feature < 0
    ok = bool(v < _MOST_NODES and 0 <= depth <= v and ((feature < n_features) & (feature >= -1)).all())
    ok = ok and bool(((left >= 0) & (left < np.where(leaf, len(value), v))).all())
    ok = ok and bool(((right >= 0) & (right < v)).all() and ((root >= 0) & (root < v)).all() and len(root))
    # every leaf is looked at, because a bundle is asked for some sets of sensors only when it is loaded
    least, most = (-_LARGEST_PART, _LARGEST_PART) if adds or numbers else (0.0, 1.001)
    ok = ok and bool(((value >= least) & (value <= most)).all())
    if not ok:
        raise DataError(
            f"the {name} of the readout point outside their own arrays or hold no answers; "
            "export the readout again"
        )
    return Trees(feature, take(f"{name}.threshold", (v,)), left, right, value, root, depth, adds, numbers)
