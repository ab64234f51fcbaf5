from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def few_trees():
    """Forests as small as the recordings; on a busy machine 200 trees take seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sentryfuse.rivals.models._TREES", 20)
        patch.setattr("sentryfuse.rivals.timing.REPEATS", 3)
        yield
