"""A bundle that has just taken over: how many windows it is watched, and when it has failed."""

from __future__ import annotations

from collections import deque

WINDOWS = 20  # answered before the old one is let go; our choice
MOST_LATE = 3  # of them beyond the deadline; one may be the machine's fault


class Probation:
    """Counts the windows of a bundle on probation, and how the one before it did.

    Attributes:
        left: windows still to be answered; 0 = nobody is on probation.
    """

    def __init__(self) -> None:
        self.left = 0
        self._late = self._allowed = 0
        self._latest: deque[bool] = deque(maxlen=WINDOWS)  # late or not, of whoever answered

    def begin(self) -> None:
        """Another bundle answers from now on."""
        self._allowed = max(MOST_LATE, 1 + sum(self._latest))  # a slow machine is not its fault
        self.left, self._late = WINDOWS, 0

    def end(self) -> None:
        """Nobody is on probation any more."""
        self.left = 0

    def see(self, *, late: bool) -> bool:
        """Take in one window.

        Args:
            late: whether it was not answered within the deadline.

        Returns:
            Whether it was one too many that was late.
        """
        self._latest.append(late)
        if not self.left:
            return False
        self._late += late
        if late and self._late >= self._allowed:
            return True
        self.left -= 1
        return False

    @property
    def said(self) -> str:
        """How many windows were late, for a reason."""
        return f"{self._late} of its first {WINDOWS - self.left + 1} windows missed the deadline"
