"""All that is wrong with a recording, said at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sentryfuse.errors import DataError

MOST = 12  # faults told in one sentence; the others are counted


class Faults:
    """Gathers what is wrong, so that nobody has to mend a file one error at a time.

    Args:
        source: name of the recording, with which each message begins.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._said: list[str] = []

    @property
    def any(self) -> bool:
        """Whether anything was noted."""
        return bool(self._said)

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note a `DataError` of the block and go on after it."""
        try:
            yield
        except DataError as error:
            self._said.append(str(error))

    def raise_all(self) -> None:
        """Tell what was noted.

        Raises:
            DataError: something was; one sentence for all of it.
        """
        if not self._said:
            return
        if len(self._said) == 1:
            raise DataError(self._said[0])
        told = [said.removeprefix(self.source).removeprefix(":").strip() for said in self._said]
        listed = "; ".join(f"({n}) {text}" for n, text in enumerate(told[:MOST], start=1))
        more = f"; and {len(told) - MOST} more" if len(told) > MOST else ""
        raise DataError(f"{self.source} has {len(told)} faults: {listed}{more}")
