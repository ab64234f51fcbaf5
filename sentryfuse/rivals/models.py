"""The rivals: what a user would fit on window statistics instead. scikit-learn is loaded when one is fitted.

Notation: N windows · F features · K classes · M sensors.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sentryfuse.errors import ConfigError
from sentryfuse.readout.encode import Scale, fit_scale
from sentryfuse.rivals.features import Floats, Table
from sentryfuse.rivals.timing import at_most
from sentryfuse.target import CLASSES, Target

FOREST = "random forest"
EXTRA_TREES = "extra trees"
BOOSTING = "gradient boosting"
LOGISTIC = "logistic regression"
LDA = "LDA"
SENSOR_SUM = "sum of LDAs per sensor"
RIDGE = "ridge regression"
RIVALS = (FOREST, EXTRA_TREES, BOOSTING, LOGISTIC, LDA, SENSOR_SUM)  # of classes
_OF_NUMBERS = (FOREST, EXTRA_TREES, BOOSTING, RIDGE)
_OF_LABELS = (FOREST, EXTRA_TREES, BOOSTING, LOGISTIC)

_TREES = 200
_TAKES_NAN = (FOREST, BOOSTING)  # what is unknown is left as it is, and they learn from that, too
_LINEAR_CLIP = 6.0  # [deviations]; as in our own readout
_TREE_CLIP = 1e6  # trees do not mind large values, but infinite ones
_LEAST = 1e-12
_WIDE = 3000  # features x classes; above it boosting as it comes takes minutes for each set
_WIDE_BOOSTING: Mapping[str, Any] = {
    "max_bins": 63,
    "max_leaf_nodes": 15,
    "max_features": 0.1,
    "max_iter": 50,
}
_WORTH_THREADS = 1_000_000  # values; on fewer, threads of boosting mostly wait for each other


class Rival(Protocol):
    """A fitted rival."""

    def probabilities(self, table: Table) -> NDArray[np.float64]:
        """Of each class, `(N, K)`."""

    @property
    def n_bytes(self) -> int:
        """Arrays that answering needs [bytes]."""


@dataclass(frozen=True, eq=False)
class Single:
    """One classifier on the statistics of some sensors side by side.

    Attributes:
        model: of scikit-learn.
        scales: sensor -> training mean and deviation of its features.
        clip: largest standardised value [deviations].
        n_classes: K.
        fills: whether unknown features become the training mean.
        target: what it answers.
    """

    model: Any
    scales: Mapping[str, Scale]
    clip: float
    n_classes: int
    fills: bool
    target: Target = CLASSES

    def probabilities(self, table: Table) -> NDArray[np.float64]:
        """Of each class, `(N, K)`; 0 for one that was not in training. Or numbers, or of each label."""
        found = np.zeros((len(next(iter(table.columns.values()))), self.n_classes))
        x = _encoded(table, self.scales, self.clip, fills=self.fills)
        if not self.target.of_classes:
            labels = hasattr(self.model, "predict_proba")
            numbers = self.model.predict_proba(x) if labels else self.model.predict(x)
            return np.asarray(numbers, np.float64).reshape(len(x), self.n_classes)
        found[:, self.model.classes_] = self.model.predict_proba(x)
        return found

    @property
    def n_bytes(self) -> int:
        """Coefficients or nodes, and the standardisation [bytes]."""
        return _bytes_of(self.model) + sum(s.mean.nbytes + s.inverse.nbytes for s in self.scales.values())


@dataclass(frozen=True, eq=False)
class Summed:
    """Log posteriors of one expert per sensor, added up over the sensors that a window has.

    Attributes:
        experts: sensor -> its expert.
    """

    experts: Mapping[str, Single]

    def probabilities(self, table: Table) -> NDArray[np.float64]:
        """Of each class, `(N, K)`; even where a window has none of the sensors."""
        total: Any = 0.0
        for name, expert in self.experts.items():
            log = np.log(np.maximum(expert.probabilities(table), _LEAST))
            total = total + np.where(table.present[name][:, None], log, 0)
        total = np.exp(total - total.max(axis=1, keepdims=True))
        return np.asarray(total / total.sum(axis=1, keepdims=True))

    @property
    def n_bytes(self) -> int:
        """Of all experts [bytes]."""
        return sum(expert.n_bytes for expert in self.experts.values())


class _ColumnByColumn:
    """One model for each number or label, answering for all of them side by side.

    Args:
        inner: of `sklearn.multioutput` or `sklearn.multiclass`.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        if hasattr(inner, "predict_proba"):
            self.predict_proba = self._chances

    def fit(self, x: Floats, y: NDArray[Any]) -> _ColumnByColumn:
        """Fit to `(N,)` or `(N, K)`."""
        self.inner.fit(x, y.reshape(len(y), -1))
        return self

    def predict(self, x: Floats) -> NDArray[Any]:
        """Numbers, `(N, K)`."""
        return np.asarray(self.inner.predict(x))

    def _chances(self, x: Floats) -> NDArray[Any]:
        found = np.asarray(self.inner.predict_proba(x))
        return found[:, 1:] if len(self.inner.estimators_) == 1 else found


class Workshop:
    """Fits rivals on the same training windows, for any set of sensors.

    Args:
        table: statistics of the training windows.
        y: their classes, `(N,)`; or numbers or labels, `(N, K)`.
        n_classes: K.
        target: what they are.
        seed: of trees and boosting.
        threads: while fitting.

    Raises:
        ConfigError: fewer than two classes are there.
    """

    def __init__(
        self,
        table: Table,
        y: NDArray[Any],
        n_classes: int,
        *,
        target: Target = CLASSES,
        seed: int,
        threads: int,
    ) -> None:
        if len(np.unique(y)) < 2:
            raise ConfigError(
                "the training windows are all of one class, so that nothing can be fitted; choose another "
                "--fold or split"
            )
        self._table, self._y, self._n_classes = table, y, n_classes
        self._scales = {name: fit_scale(x) for name, x in table.columns.items()}
        makers = _makers if target.of_classes else _makers_of_numbers
        if target.task == "multilabel":
            makers = _makers_of_labels
        self._target, self._makers, self._threads = target, makers(seed, threads), threads
        self._experts: dict[str, Single] = {}

    def fit(self, rival: str, names: Sequence[str]) -> Rival:
        """A rival for exactly these sensors; experts of single sensors are fitted once."""
        if rival != SENSOR_SUM:
            return self._single(rival, names)
        for name in names:
            if name not in self._experts:
                self._experts[name] = self._single(LDA, [name])
        return Summed({name: self._experts[name] for name in names})

    def _single(self, rival: str, names: Sequence[str]) -> Single:
        """Fitted on the windows that have one of the sensors, unless those are all of one class."""
        chosen = self._table.has_any(names)
        if len(np.unique(self._y[chosen])) < 2:
            chosen = np.ones(len(self._y), dtype=bool)
        scales = {name: self._scales[name] for name in names}
        clip = _LINEAR_CLIP if rival in (LDA, LOGISTIC, RIDGE) else _TREE_CLIP
        wide = sum(len(scale.mean) for scale in scales.values()) * self._n_classes > _WIDE
        model = self._makers[rival](wide)
        fills = rival not in _TAKES_NAN
        x = _encoded(self._table.rows(chosen), scales, clip, fills=fills)
        x[:, np.isnan(x).all(axis=0)] = 0  # boosting fails where nothing of a feature is known
        with warnings.catch_warnings(), at_most(self._threads if x.size > _WORTH_THREADS else 1):
            warnings.simplefilter("ignore")  # steps that did not converge, features that say the same
            y = self._y[chosen]
            model.fit(x, y.ravel() if y.ndim == 2 and y.shape[1] == 1 else y)
        if hasattr(model, "n_jobs"):
            model.n_jobs = 1  # one window is answered on one thread
        return Single(model, scales, clip, self._n_classes, fills, self._target)


def rivals_of(target: Target) -> tuple[str, ...]:
    """Names of those that answer what is asked for."""
    return {"regression": _OF_NUMBERS, "multilabel": _OF_LABELS}.get(target.task, RIVALS)


def need_scikit_learn() -> None:
    """Say how to get scikit-learn where it is missing.

    Raises:
        ConfigError: it is.
    """
    try:
        import sklearn  # noqa: F401
    except ModuleNotFoundError:
        raise ConfigError(
            "compare needs scikit-learn for the rivals, which is not here; pip install 'sentryfuse[compare]'"
        ) from None


def _makers(seed: int, threads: int) -> dict[str, Callable[[bool], Any]]:
    """Fresh models by name, told whether the table is wide."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.ensemble import (
        ExtraTreesClassifier,
        HistGradientBoostingClassifier,
        RandomForestClassifier,
    )
    from sklearn.linear_model import LogisticRegression

    return {
        FOREST: lambda _: RandomForestClassifier(_TREES, n_jobs=threads, random_state=seed),
        EXTRA_TREES: lambda _: ExtraTreesClassifier(_TREES, n_jobs=threads, random_state=seed),
        BOOSTING: lambda wide: HistGradientBoostingClassifier(
            early_stopping=False, random_state=seed, **(_WIDE_BOOSTING if wide else {})
        ),
        LOGISTIC: lambda _: LogisticRegression(C=0.1, max_iter=200),
        LDA: lambda _: LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
    }


def _makers_of_numbers(seed: int, threads: int) -> dict[str, Callable[[bool], Any]]:
    """As `_makers`, for regression."""
    from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor, RandomForestRegressor
    from sklearn.linear_model import RidgeCV
    from sklearn.multioutput import MultiOutputRegressor

    return {
        FOREST: lambda _: RandomForestRegressor(_TREES, n_jobs=threads, random_state=seed),
        EXTRA_TREES: lambda _: ExtraTreesRegressor(_TREES, n_jobs=threads, random_state=seed),
        BOOSTING: lambda wide: _ColumnByColumn(
            MultiOutputRegressor(
                HistGradientBoostingRegressor(
                    early_stopping=False, random_state=seed, **(_WIDE_BOOSTING if wide else {})
                )
            )
        ),
        RIDGE: lambda _: RidgeCV(np.logspace(-2, 5, 15)),
    }


def _makers_of_labels(seed: int, threads: int) -> dict[str, Callable[[bool], Any]]:
    """As `_makers`, for several labels; regression trees on 0 and 1 are classification trees (Gini)."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    numbers = _makers_of_numbers(seed, threads)
    return {
        FOREST: numbers[FOREST],
        EXTRA_TREES: numbers[EXTRA_TREES],
        BOOSTING: lambda wide: _ColumnByColumn(
            OneVsRestClassifier(
                HistGradientBoostingClassifier(
                    early_stopping=False, random_state=seed, **(_WIDE_BOOSTING if wide else {})
                )
            )
        ),
        LOGISTIC: lambda _: _ColumnByColumn(OneVsRestClassifier(LogisticRegression(C=0.1, max_iter=200))),
    }


def _encoded(table: Table, scales: Mapping[str, Scale], clip: float, *, fills: bool) -> Floats:
    """Standardised features side by side, `(N, F)`; unknown ones stay NaN or become the training mean."""
    parts = []
    for name, scale in scales.items():
        with np.errstate(over="ignore", invalid="ignore"):
            z = (table.columns[name] - scale.mean) * scale.inverse
        parts.append(np.clip(np.where(np.isnan(z), np.float32(0), z) if fills else z, -clip, clip))
    return np.concatenate(parts, axis=1)


def _bytes_of(model: Any) -> int:
    """Arrays that answering needs: coefficients, or the nodes and leaves of trees [bytes]."""
    if hasattr(model, "coef_"):
        return int(model.coef_.nbytes + model.intercept_.nbytes)
    if isinstance(model, _ColumnByColumn):
        return sum(_bytes_of(one) for one in model.inner.estimators_)
    if not hasattr(model, "estimators_") and not hasattr(model, "_predictors"):
        return 0  # a label that never or always holds
    if hasattr(model, "estimators_"):
        states = [tree.tree_.__getstate__() for tree in model.estimators_]
        return sum(int(state["nodes"].nbytes + state["values"].nbytes) for state in states)
    return sum(int(tree.nodes.nbytes) for turn in model._predictors for tree in turn)
