"""Small systems of equations, solved on the thread that asks.

A library that spreads a matrix of two hundred columns over the processors of a machine waits for all of them:
a fraction of a millisecond where nothing else runs, hundreds where another program has one. No block here is
large enough for it to do so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK, MOST = 32, 256  # columns; OpenBLAS begins to spread products of 2**18 numbers


def solve_positive(matrix: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    """`A^-1 R` of a symmetric, positive definite matrix, by Cholesky factors of its blocks.

    Larger ones than `MOST` are the library's.

    Args:
        matrix: `A`, `(D, D)`; what is above its diagonal is not looked at.
        right: `R`, `(D, K)`.

    Returns:
        `(D, K)`.

    Raises:
        numpy.linalg.LinAlgError: it is not positive definite, or not to be solved.
    """
    n = len(matrix)
    if n > MOST:
        return np.asarray(np.linalg.solve(matrix, right))
    left, x = matrix.copy(), right.astype(matrix.dtype)
    blocks = [slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK)]
    inverses = []
    for i, own in enumerate(blocks):
        inverse = np.linalg.inv(np.linalg.cholesky(left[own, own]))
        inverses.append(inverse)
        x[own] = inverse @ x[own]
        below = slice(own.stop, n)
        factor = left[below, own] @ inverse.T
        left[below, own] = factor
        for other in blocks[i + 1 :]:
            left[other.start :, other] -= factor[other.start - own.stop :] @ factor[_moved(other, own.stop)].T
        x[below] -= factor @ x[own]
    for own, inverse in zip(reversed(blocks), reversed(inverses), strict=True):
        x[own] = inverse.T @ (x[own] - left[own.stop :, own].T @ x[own.stop :])
    return x


def _moved(block: slice, by: int) -> slice:
    return slice(block.start - by, block.stop - by)
