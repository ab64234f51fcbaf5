"""Runs that are served, ended with their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.serve.served import Run, ended, started


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Start a run: `serve(token=True, speed=20)`."""
    with ExitStack() as stack:

        def start(*options: str, **settings: Any) -> Run:
            return stack.enter_context(contextmanager(ended)(started(tmp_path, *options, **settings)))

        yield start
