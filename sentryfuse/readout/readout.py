"""An answer in closed form for exactly the sensors present; numpy only.

Several heads answer from the same statistics: a discriminant over the features of all sensors present (one
for each encoding), the sum of what each sensor says alone, a discriminant over those answers, and small
trees. They are multiplied under weights by number of sensors, fitted on people not seen.

Notation: N windows · F features · K classes · M sensors · H heads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.errors import ConfigError, DataError, NoSensorsError
from sentryfuse.readout.discriminant import Doubles, as_scores, pooled
from sentryfuse.readout.encode import Person
from sentryfuse.readout.parts import Ints, Parts
from sentryfuse.readout.store import VERSION, parts_from, settings_of, target_from, tensors_of
from sentryfuse.readout.trees import Floats
from sentryfuse.target import CLASSES, Target
from sentryfuse.types import Cost


@dataclass(frozen=True, eq=False)
class Solved:
    """The readout of one set of sensors.

    Attributes:
        sensors: those present, in the readout's order.
        joint: for each view its weights `(D, K)` and bias `(K,)`; `None` where the view has no joint head.
        stack: weights `(D, K)` over the experts' scores, bias `(K,)`.
        pool: weight of each head, `(H,)`.
    """

    sensors: tuple[str, ...]
    joint: tuple[tuple[Floats, Floats] | None, ...]
    stack: tuple[Floats, Floats]
    pool: Doubles


@dataclass(frozen=True, eq=False)
class Readout:
    """A fitted readout. Made by `fit_readout` or `from_tensors`.

    Attributes:
        sensors: all sensors, in order.
        classes: names of the `K` classes, numbers or labels.
        parts: what answers.
        log_prior: of the classes in training, `(K,)`.
        pool: weights of the heads by number of sensors present, `(M, H)`; row 0 is for one sensor.
        person_weight: windows that the population counts for where features are standardised by
            person; `None` where they are not.
        target: what is asked for; of numbers and labels with what they are standardised by.
        own_signals: features are of windows that are standardised by person, as the transformer's are.
    """

    sensors: tuple[str, ...]
    classes: tuple[str, ...]
    parts: Parts
    log_prior: Doubles
    pool: Doubles
    person_weight: float | None
    target: Target = CLASSES
    own_signals: bool = False

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the heads, in the order of the pool."""
        return head_names(self.parts)

    @property
    def n_bytes(self) -> int:
        """Size of all tensors as float32 [byte]."""
        return sum(t.nbytes for t in self.tensors().values())

    def tensors(self) -> dict[str, Floats]:
        """All arrays under stable names, float32."""
        return tensors_of(self)

    def cost(self, present: Iterable[str]) -> Cost:
        """Products and numbers held for some sensors; statistics and trees are elementwise, not in MACs."""
        k, names = len(self.classes), [self.sensors[m] for m in self._chosen(present)]
        macs = 2 * k * k * len(names)  # the stack, over two kinds of experts at most
        for i, view in enumerate(self.parts.views):
            for name in names:
                if name in view.encodings:
                    readers = (view.joint is not None) + (self.parts.experts[name].view == i)
                    macs += readers * view.encodings[name].width() * k
        used = [trees for of, trees in self.parts.trees.items() if set(of) <= set(names)]
        used += [trees for of, trees in self.parts.boosted.items() if of == tuple(names)]
        nodes = sum(array.size for trees in used for array in trees.arrays().values())
        features = sum(2 * len(self.parts.scales[name].mean) for name in names)
        params = macs + nodes + features
        return Cost(macs=macs, prunable_macs=0, params=params, weights_mb=4 * params / 1e6)

    def settings(self) -> dict[str, Any]:
        """What the arrays do not say, ready for `json.dumps`."""
        return settings_of(self)

    @classmethod
    def from_tensors(cls, settings: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Readout:
        """Rebuild from `settings` and `tensors`.

        Raises:
            DataError: another version, a missing array or another shape.
        """
        if settings.get("version") != VERSION:
            raise DataError(
                f"the readout has version {settings.get('version')!r}; this program reads {VERSION}; "
                "export it again"
            )
        try:
            target = target_from(settings)
            parts = parts_from(settings, tensors)
            log_prior, pool = tensors["log_prior"], tensors["pool"]
            sensors, classes = tuple(settings["sensors"]), tuple(settings["classes"])
            weight, own_signals = settings["person_weight"], settings.get("own_signals", False) is True
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise DataError(
                f"the readout lacks {error}, or holds another kind of it; export it again"
            ) from error
        if log_prior.shape != (len(classes),) or pool.shape != (len(sensors), len(head_names(parts))):
            raise DataError(
                f"the readout has a pool of shape {pool.shape} for {len(sensors)} sensors and "
                f"{len(head_names(parts))} heads; export it again"
            )
        return cls(
            sensors,
            classes,
            parts,
            log_prior.astype(np.float64),
            pool.astype(np.float64),
            None if weight is None else float(weight),
            target,
            own_signals,
        )

    def solve(self, present: Iterable[str]) -> Solved:
        """Weights for some sensors; a few milliseconds, worth keeping.

        Args:
            present: names of the sensors that are on.

        Returns:
            What `log_probabilities` needs.

        Raises:
            NoSensorsError: none.
            ConfigError: an unknown name.
        """
        chosen = self._chosen(present)
        joint: list[tuple[Floats, Floats] | None] = []
        for view in self.parts.views:
            if view.joint is None:
                joint.append(None)
                continue
            weights, bias = view.joint.solve(chosen)
            joint.append((weights.astype(np.float32), bias.astype(np.float32)))
        weights, bias, _ = self.parts.stack.solve(chosen)
        return Solved(
            tuple(self.sensors[m] for m in chosen),
            tuple(joint),
            (weights.astype(np.float32), bias.astype(np.float32)),
            self.pool[len(chosen) - 1],
        )

    def log_probabilities(
        self,
        features: Mapping[str, NDArray[Any]],
        present: Iterable[str] | Solved,
        person: Mapping[str, Person] | None = None,
    ) -> Doubles:
        """Log probabilities of the classes; or numbers or labels, standardised.

        Args:
            features: sensor -> `(N, F)` of `sentryfuse.statistics.features`; those of absent sensors are not
                looked at.
            present: the sensors that are on, or what `solve` gave for them.
            person: sensor -> moments of the person's features so far, where the readout standardises by
                person; `None` means nothing is known of the person.

        Returns:
            `(N, K)`; of classes each row sums to one after `exp`, what `target.back` makes numbers of else.

        Raises:
            ConfigError: a sensor without features, or another number of them.
        """
        solved = present if isinstance(present, Solved) else self.solve(present)
        heads = self.heads_of(features, solved, person)
        return pooled(heads, solved.pool, numbers=not self.target.of_classes)

    def heads_of(
        self, features: Mapping[str, NDArray[Any]], solved: Solved, person: Mapping[str, Person] | None = None
    ) -> Doubles:
        """Scores of each head before they are multiplied, `(N, H, K)`, centred over the classes."""
        z = {}
        for name in solved.sensors:
            given = features.get(name)
            wanted = len(self.parts.scales[name].mean)
            if given is None or given.ndim != 2 or given.shape[1] != wanted:
                raise ConfigError(
                    f"{name} is present but its features have shape {getattr(given, 'shape', None)}; "
                    f"the readout wants (windows, {wanted}); take them from sentryfuse.statistics.features"
                )
            known = person.get(name) if person is not None and self.person_weight is not None else None
            x = np.asarray(given, dtype=np.float32)
            z[name] = self.parts.scales[name].apply(x, known, self.person_weight or 0.0)
        return heads_from(self.parts, z, solved, self.log_prior, numbers=not self.target.of_classes)

    def _chosen(self, present: Iterable[str]) -> Ints:
        names = {present} if isinstance(present, str) else set(present)
        unknown = sorted(names - set(self.sensors))
        if unknown:
            raise ConfigError(
                f"sensor {unknown[0]!r} is unknown; the readout has {', '.join(self.sensors)}; "
                "use those names"
            )
        if not names:
            raise NoSensorsError(
                "no sensor is present, so there is nothing to answer from; give at least one"
            )
        return np.array([i for i, name in enumerate(self.sensors) if name in names], dtype=np.intp)


def head_names(parts: Parts) -> tuple[str, ...]:
    """Names of the heads, in order."""
    joints = [f"joint{i}" for i, view in enumerate(parts.views) if view.joint is not None]
    trees = ["trees_sum", "trees"] if parts.trees else []
    boosted = ["boosted"] if parts.boosted else []
    return (*joints, "sum", "stack", *trees, *boosted, "prior")


def _reads(parts: Parts, view: int, sensor: str) -> bool:
    """Whether a head or an expert wants this encoding of this sensor."""
    return parts.views[view].joint is not None or parts.experts[sensor].view == view


def heads_from(
    parts: Parts, z: Mapping[str, Floats], solved: Solved, log_prior: Doubles, *, numbers: bool = False
) -> Doubles:
    """Scores of each head from standardised features, `(N, H, K)`."""
    names = solved.sensors
    n = len(z[names[0]])
    found: list[Doubles] = []
    encoded = [
        {s: view.encodings[s].apply(z[s]) for s in names if _reads(parts, i, s)}
        for i, view in enumerate(parts.views)
    ]
    for view, codes, weights in zip(parts.views, encoded, solved.joint, strict=True):
        if view.joint is None or weights is None:
            continue
        index = {s: i for i, s in enumerate(view.encodings)}
        columns = np.concatenate(
            [codes[s] @ view.joint.projections[index[s]].astype(np.float32) for s in names], axis=1
        )
        found.append(as_scores(columns @ weights[0] + weights[1], numbers=numbers))
    of_sensor = []
    total = np.zeros((n, len(log_prior)))
    by_trees = np.zeros((n, len(log_prior)))
    for s in names:
        expert = parts.experts[s]
        scores = expert.scores(encoded[expert.view][s], numbers=numbers)
        total += scores
        of_sensor.append(scores)
        if (s,) in parts.trees:
            scores = as_scores(parts.trees[(s,)].logits(z[s]), numbers=numbers)
            by_trees += scores
            of_sensor.append(scores)
    found.append(as_scores(total, numbers=numbers))
    stacked = np.concatenate(of_sensor, axis=1) @ solved.stack[0] + solved.stack[1]
    found.append(as_scores(stacked, numbers=numbers))
    if parts.trees:
        found.append(as_scores(by_trees, numbers=numbers))
        both = parts.trees.get(names)
        if both is None or len(names) == 1:
            found.append(np.zeros((n, len(log_prior))))
        else:
            logits = both.logits(np.concatenate([z[s] for s in names], axis=1))
            found.append(as_scores(logits, numbers=numbers))
    if parts.boosted:
        boosted = parts.boosted.get(names)
        if boosted is None:
            found.append(np.zeros((n, len(log_prior))))
        else:
            logits = boosted.logits(np.concatenate([z[s] for s in names], axis=1))
            found.append(as_scores(logits, numbers=numbers))
    found.append(np.broadcast_to(log_prior - log_prior.mean(), (n, len(log_prior))))
    return np.stack(found, axis=1)
