"""Small ensembles of trees as plain arrays, evaluated for all windows and trees at once.

Notation: N windows · F features · T trees · V nodes of all trees · K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_CHUNK = 2_000_000


@dataclass(frozen=True, eq=False)
class Trees:
    """Boosted trees: each adds its leaf's value to the logit of one class.

    A node sends a window left where its feature is at most the threshold; a leaf points to itself. With two
    classes every tree adds to the second.

    Attributes:
        feature: column each node looks at, `(V,)`.
        threshold: `(V,)`.
        left: node to go to, `(V,)`.
        right: `(V,)`.
        value: what a leaf adds, `(V,)`, 0 at inner nodes.
        root: first node of each tree, `(T,)`.
        target: class each tree adds to, `(T,)`.
        base: logits before any tree, `(K,)`.
        depth: steps from a root to its deepest leaf, at most.
    """

    feature: NDArray[np.int32]
    threshold: Floats
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: Floats
    root: NDArray[np.int32]
    target: NDArray[np.int32]
    base: Floats
    depth: int

    def logits(self, x: NDArray[Any]) -> Floats:
        """Sum of the leaves reached, `(N, F)` without NaN -> `(N, K)`."""
        x = np.ascontiguousarray(x, dtype=np.float32)
        result = np.empty((len(x), len(self.base)), dtype=np.float32)
        to_class = (self.target[:, None] == np.arange(len(self.base))).astype(np.float32)
        step = max(1, _CHUNK // max(len(self.root), 1))
        for start in range(0, len(x), step):
            part = x[start : start + step]
            flat = part.ravel()
            row = (np.arange(len(part)) * x.shape[1])[:, None]
            node = np.broadcast_to(self.root, (len(part), len(self.root)))
            for _ in range(self.depth):
                goes_left = flat[row + self.feature[node]] <= self.threshold[node]
                node = np.where(goes_left, self.left[node], self.right[node])
            result[start : start + step] = self.value[node] @ to_class + self.base
        return result

    @property
    def n_bytes(self) -> int:
        """Size of the arrays as they are kept [byte]."""
        return sum(a.nbytes for a in self.arrays().values())

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name."""
        names = ("feature", "threshold", "left", "right", "value", "root", "target", "base")
        return {name: getattr(self, name) for name in names}
