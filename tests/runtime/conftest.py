"""What tests of the runtime share."""

from __future__ import annotations

import pytest

from sentryfuse.runtime import Result
from sentryfuse.runtime.answering import Answering
from sentryfuse.stream import CutWindow


@pytest.fixture
def seen(monkeypatch) -> list[tuple[CutWindow, Result]]:
    """Every window with its result."""
    found: list[tuple[CutWindow, Result]] = []
    answer = Answering.answer

    def watched(self, window, cut):
        found.append((window, answer(self, window, cut)))
        return found[-1][1]

    monkeypatch.setattr(Answering, "answer", watched)
    return found
