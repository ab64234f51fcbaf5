"""Small ensembles of trees as plain arrays, evaluated for all windows and trees at once.

Notation: N windows · F features · T trees · V nodes of all trees · L leaves of all trees · K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_CHUNK = 1_000_000
UNSEEN = 0.02  # probability shared out over all classes, so that none is ruled out by a leaf


@dataclass(frozen=True, eq=False)
class Trees:
    """Trees whose leaves hold probabilities of the classes, numbers or, where boosted, parts of the answer.

    The answer is the mean of the probabilities or numbers, or the sum of the parts. A node sends a window
    left where its feature is at most the threshold.

    Attributes:
        feature: column each node looks at, `(V,)`; -1 at a leaf.
        threshold: `(V,)`.
        left: node to go to, `(V,)`; at a leaf its row in `value`.
        right: node to go to, `(V,)`; 0 at a leaf.
        value: probabilities, numbers, or what is added to the logits or numbers, `(L, K)`.
        root: first node of each tree, `(T,)`.
        depth: steps from a root to the deepest leaf.
        adds: whether the leaves hold parts that add up.
        numbers: whether numbers are the answer, not logits.
    """

    feature: NDArray[np.int32]
    threshold: Floats
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: Floats
    root: NDArray[np.int32]
    depth: int
    adds: bool = False
    numbers: bool = False

    def means(self, x: NDArray[Any]) -> Floats:
        """Mean of the leaves reached, `(N, F)` without NaN -> `(N, K)`: probabilities, unless leaves add."""
        x = np.ascontiguousarray(x, dtype=np.float32)
        own = np.arange(len(self.feature), dtype=np.int32)
        leaf = self.feature < 0
        column = np.where(leaf, 0, self.feature)
        left = np.where(leaf, own, self.left)  # a leaf leads to itself
        right = np.where(leaf, own, self.right)
        result = np.empty((len(x), self.value.shape[1]), dtype=np.float32)
        step = max(1, _CHUNK // max(len(self.root) * self.value.shape[1], 1))
        for start in range(0, len(x), step):
            part = x[start : start + step]
            flat = part.ravel()
            row = (np.arange(len(part)) * x.shape[1])[:, None]
            node = np.broadcast_to(self.root, (len(part), len(self.root)))
            for _ in range(self.depth):
                goes_left = flat[row + column[node]] <= self.threshold[node]
                node = np.where(goes_left, left[node], right[node])
            result[start : start + step] = self.value[self.left[node]].mean(axis=1)
        return result

    def logits(self, x: NDArray[Any]) -> Floats:
        """Sum of the leaves, mean of numbers, or log of probabilities, none 0, `(N, F)` -> `(N, K)`."""
        means = self.means(x)
        if self.adds:
            return means * np.float32(len(self.root))
        if self.numbers:
            return means
        return np.asarray(np.log(means + np.float32(UNSEEN / self.value.shape[1])))

    @property
    def n_bytes(self) -> int:
        """Size of the arrays as they are kept [byte]."""
        return sum(a.nbytes for a in self.arrays().values())

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name."""
        names = ("feature", "threshold", "left", "right", "value", "root")
        return {name: getattr(self, name) for name in names}
