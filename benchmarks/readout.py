"""The readout beside what a user would pick instead, on the same statistics, with sensors missing.

Rivals: random forest, extra trees, shrinkage LDA and logistic regression on the statistics of all sensors
side by side. With a sensor missing they are (a) those fitted with all sensors, features of the missing one
replaced by the training mean, and (b) refitted on the sensors left: a model for each set, which is the
stronger rival.

usage: python -m benchmarks.readout --data FOLDER --out FILE [--seeds N] NAME ...
NAME: dsads, dsads_folds, wesad_wrist, physionet2012, room_occupancy, a made recording of tests/awkward.py, or
"made" for all of those.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.data import Windows, load_windows
from sentryfuse.readout import Fit, fit_readout, person_moments
from sentryfuse.statistics import features
from tests.awkward import AWKWARD

WESAD = (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16, 17)
Features = dict[str, NDArray[np.float32]]


def statistics_of(windows: Windows) -> Features:
    """Features of every sensor, `(N, F)` each."""
    return {
        m.name: np.concatenate(
            [
                features(m, windows.batch(part, [m.name])[m.name])
                for part in np.array_split(np.arange(len(windows)), -(-len(windows) // 1000))
            ]
        )
        for m in windows.modalities
    }


def splits(name: str, w: Windows) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Training and test windows of each fold, `(N,)` each."""
    if name == "wesad_wrist":
        tests = [np.isin(w.subject, WESAD[i::5]) for i in range(5)]
    elif name == "dsads_folds":
        people = np.unique(w.subject)
        tests = [np.isin(w.subject, people[2 * i : 2 * i + 2]) for i in range(4)]
    else:
        tests = [w.split == 2]
    for test in tests:
        yield ~test, test


def score(log: NDArray[Any], y: NDArray[Any], uneven: bool) -> float:
    """Accuracy [%], or AUROC [%] of the second class."""
    if not uneven:
        return float(100 * (log.argmax(1) == y).mean())
    from sklearn.metrics import roc_auc_score

    return float(100 * roc_auc_score(y, log[:, 1] - log[:, 0]))


def ours(fit: Fit, x: Features, subject: NDArray[Any], present: tuple[str, ...]) -> NDArray[Any]:
    """Log probabilities; a person's own windows give its moments where the folds chose so."""
    readout = fit.readout
    solved = readout.solve(present)
    if readout.person_weight is None:
        return readout.log_probabilities(x, solved)
    log = np.zeros((len(subject), len(readout.classes)))
    for who in np.unique(subject):
        mine = subject == who
        part = {s: f[mine] for s, f in x.items()}
        log[mine] = readout.log_probabilities(part, solved, person_moments(part))
    return log


def rivals() -> dict[str, Callable[[], Any]]:
    """Fresh models by name."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    return {
        "forest": lambda: RandomForestClassifier(200, n_jobs=2, random_state=0),
        "extra_trees": lambda: ExtraTreesClassifier(200, n_jobs=2, random_state=0),
        "lda": lambda: LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
        "logistic": lambda: LogisticRegression(max_iter=200, C=0.1),
    }


def compare(
    name: str, w: Windows, x: Features, train: Any, test: Any, refit: bool, normalise: Any, chosen: list[str]
) -> dict[str, Any]:
    """One fold: every model with all sensors and with each one missing."""
    y = w.y
    counts = np.bincount(y[train], minlength=len(w.classes))
    uneven = len(w.classes) == 2 and counts.min() < 0.2 * train.sum()
    begin = time.perf_counter()
    inside = {s: f[train] for s, f in x.items()}
    outside = {s: f[test] for s, f in x.items()}
    fit = fit_readout(
        inside, y[train], w.subject[train], w.classes, present=w.present[train], normalise=normalise
    )
    took = time.perf_counter() - begin
    sets = [tuple(s for s in w.names if s != out) for out in w.names] if len(w.names) > 1 else []

    def both(answer: Callable[[tuple[str, ...]], Any]) -> list[float]:
        found = [score(answer(s), y[test], uneven) for s in (w.names, *sets)]
        return [found[0], float(np.mean(found[1:]))]

    line: dict[str, Any] = {
        "recording": name,
        "measure": "auroc" if uneven else "accuracy",
        "normalise": fit.chosen["normalise"],
        "fit_s": round(took, 1),
        "bytes": fit.readout.n_bytes,
        "ours": both(lambda s: ours(fit, outside, w.subject[test], s)),
    }
    z = {s: fit.scales[s].apply(f) for s, f in x.items()}  # unknown -> training mean, standardised
    for rival, make in rivals().items():
        if rival not in chosen:
            continue
        whole = np.concatenate(list(z.values()), axis=1)
        model = make().fit(whole[train], y[train])

        def filled(present: tuple[str, ...], model: Any = model) -> Any:
            parts = [z[s][test] if s in present else np.zeros_like(z[s][test]) for s in w.names]
            return spread(model, np.concatenate(parts, axis=1), len(w.classes))

        def fresh(present: tuple[str, ...], make: Any = make) -> Any:
            part = np.concatenate([z[s] for s in present], axis=1)
            return spread(make().fit(part[train], y[train]), part[test], len(w.classes))

        line[rival] = both(filled)
        if refit and sets:
            line[f"{rival}_refitted"] = [line[rival][0], both(fresh)[1]]
    return line


def spread(model: Any, x: Any, n_classes: int) -> NDArray[Any]:
    """Log probabilities over all classes."""
    p = np.full((len(x), n_classes), 1e-6)
    p[:, model.classes_] += model.predict_proba(x)
    return np.asarray(np.log(p))


def main() -> None:
    """Run, print a table and write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+")
    parser.add_argument("--data", type=Path, default=Path())
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=1, help="of made recordings")
    parser.add_argument("--no-refit", action="store_true")
    parser.add_argument("--normalise", default="auto", choices=("auto", "population", "person"))
    parser.add_argument("--rivals", nargs="*", default=["forest", "extra_trees", "lda", "logistic"])
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = []
    names = [n for name in given.names for n in (AWKWARD if name == "made" else [name])]
    for name in names:
        own = []
        for seed in range(given.seeds if name in AWKWARD else 1):
            file = given.data / f"{'dsads' if name == 'dsads_folds' else name}.npz"
            w = AWKWARD[name](seed) if name in AWKWARD else load_windows(file)
            x = statistics_of(w)
            for train, test in splits(name, w):
                own.append(
                    compare(name, w, x, train, test, not given.no_refit, given.normalise, given.rivals)
                )
        lines += own
        mean = {
            k: np.mean([o[k] for o in own], axis=0).round(1).tolist()
            for k in own[0]
            if isinstance(own[0][k], list)
        }
        row = "  ".join(f"{k} {a:.1f}/{b:.1f}" for k, (a, b) in mean.items())
        print(
            f"{name:16} {own[0]['normalise']} {own[0]['fit_s']} s {own[0]['bytes'] // 1000} kB  {row}",
            flush=True,
        )
    given.out.write_text(json.dumps(lines, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
