"""A bar for work that is mostly over before anybody waits."""

from __future__ import annotations

import time

from sentryfuse.progress import Progress

PATIENCE_S = 2.0


class Waiting(Progress):
    """A `Progress` that says nothing where everything is done within two seconds, as small files are."""

    def update(self, done: int, text: str = "", *, left_s: float | None = None) -> None:
        """Report how far it is; see `Progress`."""
        if time.monotonic() - self._started >= PATIENCE_S:
            super().update(done, text, left_s=left_s)
