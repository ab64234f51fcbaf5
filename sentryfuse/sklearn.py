"""A scikit-learn estimator around training and answering; needs torch and scikit-learn.

Notation: N windows · T steps · C channels · F features · K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted, validate_data

from sentryfuse.data import Windows, make_windows
from sentryfuse.data.scoring import answer_all
from sentryfuse.errors import ConfigError, DataError
from sentryfuse.model.pretrained import create_model
from sentryfuse.progress import is_quiet, set_quiet
from sentryfuse.pruning.evaluation import torch_answer
from sentryfuse.pruning.scorers import make_plan
from sentryfuse.readout.recording import on_recording
from sentryfuse.training import TrainSettings, train
from sentryfuse.types import Budget, Modality

__all__ = ["SentryClassifier"]

ALL = "x"  # the one sensor where none are named
TRIES = 50  # draws of groups for validation, of which the best is taken
Raw = dict[str, NDArray[np.float32]]


class SentryClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A model, its gate and its readout as one classifier of windows.

    `X` is a three-dimensional array (say by `axes` in which order), a table `(N, F)`, or a dictionary of one
    array `(N, T, C)` per sensor, each at its own rate. In a table each column is a channel of a window of one
    step, unless `shape` says that a row is a whole window laid out flat, as a `Pipeline` of scikit-learn's
    transformers wants it. NaN is "not measured"; a sensor without any value is absent from a window.

    What a window is answered never depends on the other windows of `X`: nothing is standardised by person.

    Args:
        backbone: a name from `sf.list_models()`.
        preset: sizes of it.
        options: fields of the backbone's shape that replace the preset's.
        attention: "sentry" or "dense".
        sensors: sensor name -> which channels of an array, or columns of a table, are its own; `None` = all
            are one sensor. A dictionary `X` names its sensors itself.
        axes: "ntc" or "nct": what the axes of a three-dimensional array are, and those of `shape`.
        shape: of one window that is a row of a table, `(T, C)` or `(C, T)` as `axes` says.
        rate_hz: samples per second, one number or sensor name -> number; sensors of one step have none [Hz].
        ratio: share of the prunable MACs that is cut away when answering, for the sensors each window has.
        validation: share of the windows, or of the groups where `fit` is given some, that choose the epoch.
        epochs: passes over the training windows; `None` = as `TrainSettings` chooses.
        settings: how to train; the readout is "population" or "none", the seed that of `random_state`.
        verbose: show bars.
        random_state: of everything random; an integer makes `fit` repeatable.

    Attributes:
        classes_: labels, `(K,)`, ascending.
        model_: the trained `SentryModel`: plan, prune, save and export it as any other.
        history_: one dictionary per epoch.
        n_features_in_: columns of a table; of another `X`, the second axis or the number of all channels.
    """

    def __init__(
        self,
        backbone: str = "maestro",
        *,
        preset: str = "small",
        options: Mapping[str, Any] | None = None,
        attention: str = "sentry",
        sensors: Mapping[str, Sequence[int]] | None = None,
        axes: str | None = None,
        shape: tuple[int, int] | None = None,
        rate_hz: float | Mapping[str, float] = 1.0,
        ratio: float = 0.0,
        validation: float = 0.2,
        epochs: int | None = None,
        settings: TrainSettings | None = None,
        verbose: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.backbone = backbone
        self.preset = preset
        self.options = options
        self.attention = attention
        self.sensors = sensors
        self.axes = axes
        self.shape = shape
        self.rate_hz = rate_hz
        self.ratio = ratio
        self.validation = validation
        self.epochs = epochs
        self.settings = settings
        self.verbose = verbose
        self.random_state = random_state

    def fit(self, X: Any, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Train on windows.

        Args:
            X: windows, as the class says.
            y: labels of any kind, `(N,)`.
            groups: the person of each window, `(N,)`; people are then held out whole to choose the epoch.
                With `None` every window counts as a person of its own.

        Returns:
            The estimator.

        Raises:
            ConfigError: parameters that mean nothing, one class, or too few windows or groups to choose with.
            DataError: windows that do not fit together.
            ValueError: what scikit-learn refuses: infinite values, sparse or complex arrays, labels that are
                numbers to regress on.
        """
        raw, labels = self._given(X, y, fresh=True)
        assert labels is not None
        check_classification_targets(labels)
        self.classes_, index = np.unique(labels, return_inverse=True)
        if len(index) < 2:
            raise ConfigError("there is 1 sample, and one to learn from and one to choose with are needed")
        if len(self.classes_) < 2:
            raise ConfigError(f"y holds one class, {self.classes_[0]}; two classes or more are needed")
        if not 0 < self.validation < 1:
            raise ConfigError(f"validation is a share within 0 < share < 1, got {self.validation}")
        random = check_random_state(self.random_state)
        seed = int(random.randint(2**31))
        if groups is None:
            subject, split = np.arange(len(index)), _split_windows(index, self.validation, seed)
        else:
            check_consistent_length(index, groups)
            subject = np.unique(np.asarray(groups), return_inverse=True)[1]
            split = _split_groups(subject, index, self.validation, seed)
        self.modalities_ = self._modalities(raw)
        self._names = [str(label) for label in self.classes_]
        windows = self._windows(raw, index, subject=subject, split=split)
        settings = self.settings or TrainSettings()
        settings = replace(
            settings,
            seed=seed,
            epochs=settings.epochs if self.epochs is None else self.epochs,
            readout="none" if settings.readout == "none" else "population",
        )
        with _said(self.verbose), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = create_model(
                self.backbone,
                modalities=windows.modalities,
                classes=windows.classes,
                preset=self.preset,
                attention=self.attention,
                options=self.options,
            )
            self.history_ = train(model, windows, settings=settings)
        self.model_ = model
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """Probabilities of the classes in the order of `classes_`, `(N, K)`.

        Raises:
            ConfigError: a window without any sensor, or other sensors, lengths or channels than in `fit`.
            DataError: single values of a sensor are NaN, of which `fit` saw none.
        """
        check_is_fitted(self)
        raw, _ = self._given(X, None, fresh=False)
        n = len(next(iter(raw.values())))
        windows = self._windows(raw, np.zeros(n, np.int64), subject=np.arange(n), split=np.full(n, 2))
        alone = np.flatnonzero(~windows.present.any(1))
        if len(alone):
            raise ConfigError(
                f"window {alone[0]} of X has no value of any sensor ({len(alone)} such windows); leave it out"
            )
        rows = np.arange(n)
        answered, probabilities, _, _ = answer_all(
            windows,
            rows,
            present=None,
            plan_for=partial(make_plan, self.model_, budget=Budget(ratio=self.ratio)),
            answer=torch_answer(self.model_),
            beside=on_recording(self.model_.mixture, windows, rows),
        )
        return probabilities[np.argsort(answered)]

    def predict(self, X: Any) -> NDArray[Any]:
        """The likeliest label of each window, `(N,)`; raises as `predict_proba`."""
        check_is_fitted(self)
        return np.asarray(self.classes_[self.predict_proba(X).argmax(1)])

    def __sklearn_tags__(self) -> Tags:
        """What scikit-learn has to know."""
        tags: Tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = True
        return tags

    def _given(self, x: Any, y: ArrayLike | None, *, fresh: bool) -> tuple[Raw, NDArray[Any] | None]:
        """Windows by sensor, `(N, T, C)` each, and labels."""
        check = {"dtype": np.float32, "ensure_all_finite": "allow-nan", "allow_nd": True}
        if isinstance(x, Mapping) and not issparse(x):  # one kind of sparse matrix is a dictionary
            raw = {str(name): check_array(value, order="C", **check) for name, value in x.items()}
            wrong = [name for name, value in raw.items() if value.ndim != 3]
            if wrong or not raw:
                raise ConfigError(
                    "a dictionary X holds one array (windows, steps, channels) per sensor; "
                    + (f"that of {wrong[0]} has {raw[wrong[0]].ndim} axes" if wrong else "this one is empty")
                )
            check_consistent_length(*raw.values(), *(() if y is None else (y,)))
            labels = None if y is None else np.asarray(y).ravel()
            if fresh:
                self.n_features_in_ = sum(value.shape[2] for value in raw.values())
        else:
            if y is None and fresh:
                validate_data(self, x, y)  # which says that y is missing
            both = validate_data(self, x, "no_validation" if y is None else y, reset=fresh, **check)
            x, labels = (both, None) if y is None else both
            raw = self._by_sensor(x)
        if not fresh:
            self._check_known(raw)
        return raw, labels

    def _by_sensor(self, x: NDArray[np.float32]) -> Raw:
        """An array or a table -> windows by sensor."""
        if self.axes not in (None, "ntc", "nct"):
            raise ConfigError(f"axes {self.axes!r} is unknown; choose ntc or nct")
        if x.ndim > 3:
            raise ConfigError(
                f"X has {x.ndim} axes; give windows, steps and channels, or windows and features"
            )
        if x.ndim == 2 and self.shape is None:
            x = x[:, None]
        else:
            if self.axes is None:
                raise ConfigError(
                    f"X holds windows of {' x '.join(map(str, self.shape or x.shape[1:]))} numbers, and "
                    "nothing says which are steps; set axes to ntc (steps, channels) or nct (channels, steps)"
                )
            if x.ndim == 2:
                assert self.shape is not None
                if x.shape[1] != self.shape[0] * self.shape[1]:
                    raise ConfigError(f"X has {x.shape[1]} columns, which are no windows of {self.shape}")
                x = x.reshape(len(x), *self.shape)
            if self.axes == "nct":
                x = x.transpose(0, 2, 1)
        found = {}
        for name, channels in (self.sensors or {ALL: range(x.shape[2])}).items():
            chosen = np.asarray(list(channels), np.intp)
            if not len(chosen) or chosen.min() < 0 or chosen.max() >= x.shape[2]:
                raise ConfigError(f"sensor {name} has channels {list(channels)}, X has 0 to {x.shape[2] - 1}")
            found[name] = np.ascontiguousarray(x[:, :, chosen])
        return found

    def _modalities(self, raw: Raw) -> tuple[Modality, ...]:
        rates = self.rate_hz if isinstance(self.rate_hz, Mapping) else dict.fromkeys(raw, self.rate_hz)
        made = []
        for name, x in raw.items():
            if name not in rates:
                raise ConfigError(f"rate_hz names no rate of {name}; it names {', '.join(rates)}")
            hole = np.isnan(x)
            part = hole.any((1, 2)) & ~hole.all((1, 2))
            channels = tuple(f"{name}{i}" for i in range(x.shape[2]))
            rate = float(rates[name]) if x.shape[1] > 1 else 0.0
            made.append(Modality(name, rate, x.shape[1], channels, may_miss=bool(part.any())))
        return tuple(made)

    def _check_known(self, raw: Raw) -> None:
        known = {m.name: (m.length, m.n_channels) for m in self.modalities_}
        given = {name: value.shape[1:] for name, value in raw.items()}
        if given != known:
            raise ConfigError(f"X has sensors of (steps, channels) {given}, fit saw {known}; give the same")

    def _windows(self, raw: Raw, y: NDArray[Any], *, subject: NDArray[Any], split: NDArray[Any]) -> Windows:
        """Checked windows; a sensor without a value is absent, whether single values may miss or not."""
        absent = {name: np.asarray(np.isnan(x).all((1, 2))) for name, x in raw.items()}
        made = make_windows(
            "X",
            self.modalities_,
            raw={n: np.where(absent[n][:, None, None], np.float32(0), x) for n, x in raw.items()},
            y=y,
            classes=self._names,
            subject=subject,
            split=split,
        )
        return replace(made, present=~np.stack([absent[name] for name in made.names], 1))


def _split_windows(y: NDArray[np.intp], share: float, seed: int) -> NDArray[np.int8]:
    """0 train and 1 validation: of every class about `share`, and always at least one to learn from."""
    rng, split = np.random.default_rng(seed), np.zeros(len(y), np.int8)
    for label in np.unique(y):
        own = rng.permutation(np.flatnonzero(y == label))
        split[own[: min(len(own) - 1, max(1, round(share * len(own))))]] = 1
    if not split.any():
        raise DataError("every class has 1 sample only; two of one class are needed, one to choose with")
    return split


def _split_groups(group: NDArray[np.intp], y: NDArray[np.intp], share: float, seed: int) -> NDArray[np.int8]:
    """The same by whole groups; of some draws, the one that leaves most classes on both sides."""
    n = group.max() + 1
    if n < 2:
        raise ConfigError(
            "groups holds one group, and one to choose with is held out; give more, or leave it out"
        )
    held = min(n - 1, max(1, round(share * n)))
    rng, best, most = np.random.default_rng(seed), np.zeros(len(y), np.int8), (0, 0)
    for _ in range(TRIES):
        split = np.isin(group, rng.permutation(n)[:held]).astype(np.int8)
        found = len(np.unique(y[split == 0])), len(np.unique(y[split == 1]))
        if found > most:
            best, most = split, found
    if most[0] <= y.max():
        raise ConfigError(
            "some classes are known from so few groups that none is left to learn from; "
            "give fewer classes, more groups, or leave groups out"
        )
    return best


@contextmanager
def _said(verbose: bool) -> Iterator[None]:
    """Bars and lines only if they are wanted."""
    before = is_quiet()
    set_quiet(before or not verbose)
    try:
        yield
    finally:
        set_quiet(before)
