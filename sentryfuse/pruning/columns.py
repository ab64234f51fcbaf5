"""Running statistics of what enters the last product of a block, column by column."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class ColumnStatistics:
    """One column per FFN channel, or per dimension of each head; rows are tokens.

    Args:
        n_columns: columns of the block.

    Attributes:
        windows: windows seen.
        tokens: tokens seen.
        mean: over all tokens, `(columns,)`.

    Source:
        Batches are merged as in Chan, Golub and LeVeque (1979), so the variance does not depend on how the
        windows are cut into batches.
    """

    def __init__(self, n_columns: int) -> None:
        self.windows = self.tokens = 0
        self.mean = np.zeros(n_columns)
        self._deviation = np.zeros(n_columns)  # sum of squared deviations from the mean
        self._peaks = np.zeros(n_columns)  # sum over windows of the squared mean magnitude

    def add(self, rows: Array, *, windows: int, length: int, copies: int = 1) -> None:
        """Take in one batch.

        Args:
            rows: what entered the product, `(copies * windows * rows of a window, columns)`.
            windows: windows in the batch.
            length: tokens per window. There may be fewer or more rows, where each expert lists only the
                tokens it takes; a token counts as zero wherever no row has it.
            copies: how often the windows follow one another in `rows`: once, or once per expert.
        """
        tokens = windows * length
        mean = rows.sum(0) / tokens
        deviation = ((rows - mean) ** 2).sum(0) + (tokens - len(rows)) * mean**2
        total, step = self.tokens + tokens, mean - self.mean
        self._deviation += deviation + step**2 * self.tokens * tokens / total
        self.mean += step * tokens / total
        by_window = np.abs(rows).reshape(copies, windows, -1, rows.shape[1]).sum((0, 2)) / length
        self._peaks += (by_window**2).sum(0)
        self.tokens, self.windows = total, self.windows + windows

    @property
    def variance(self) -> Array:
        """Over all tokens, `(columns,)`."""
        return self._deviation / max(self.tokens, 1)

    @property
    def norm(self) -> Array:
        """Root of the sum of squares over the tokens of an average window, `(columns,)`."""
        squares = self._deviation + self.tokens * self.mean**2
        return np.asarray(np.sqrt(squares / max(self.windows, 1)))

    @property
    def magnitude(self) -> Array:
        """Mean magnitude over the tokens of a window, root mean square over windows, `(columns,)`."""
        return np.asarray(np.sqrt(self._peaks / max(self.windows, 1)))
