from __future__ import annotations

import numpy as np
import pytest

from sentryfuse.readout.discriminant import solve_shrunk
from sentryfuse.readout.positive import BLOCK, MOST, solve_positive

pytestmark = pytest.mark.device


def positive(n: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, 2 * n))
    return rows @ rows.T / n + 0.01 * np.eye(n), rng.normal(size=(n, 5))


@pytest.mark.parametrize("n", [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 160, MOST, MOST + 1])
def test_it_is_the_solution_that_numpy_finds(n):
    matrix, right = positive(n)
    before = matrix.copy(), right.copy()
    np.testing.assert_allclose(solve_positive(matrix, right), np.linalg.solve(matrix, right), rtol=1e-9)
    assert np.array_equal(matrix, before[0])
    assert np.array_equal(right, before[1])


def test_what_is_above_the_diagonal_is_not_looked_at():
    matrix, right = positive(3 * BLOCK)
    lower = np.tril(matrix) + np.triu(np.full_like(matrix, np.nan), 1)
    assert np.array_equal(solve_positive(lower, right), solve_positive(matrix, right))


def test_a_matrix_that_is_not_positive_is_refused_and_the_discriminant_is_found_all_the_same():
    matrix, right = positive(2 * BLOCK)
    matrix[-1, -1] = -1.0
    with pytest.raises(np.linalg.LinAlgError):
        solve_positive(matrix, right)
    found = solve_shrunk(matrix, right, 0.0)
    np.testing.assert_allclose(found, np.linalg.solve(matrix, right), rtol=1e-5)


def test_numbers_keep_their_type():
    matrix, right = positive(2 * BLOCK)
    found = solve_positive(matrix.astype(np.float32), right)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.linalg.solve(matrix, right), rtol=1e-2, atol=1e-3)
