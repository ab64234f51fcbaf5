"""What every room's tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Every core has a worker already: libraries that start a thread for each core would wait for each other.
# Said before numpy and torch load, and to the programs that tests start.
for libraries in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{libraries}_NUM_THREADS", "1")

if find_spec("hypothesis"):  # a device may lack it
    from hypothesis import settings

    # An example of 2 ms takes 300 ms where others have the machine; what must be quick says so itself.
    settings.register_profile("any machine", settings(), deadline=None)
    settings.load_profile("any machine")


@pytest.fixture
def units_go_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """In models as small as the tests' a block is mostly small operations, and would go whole."""
    monkeypatch.setattr("sentryfuse.planning.removals.OVERHEAD", {"heads": 0.0, "ffn": 0.0})


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Path of a real recording by file name; the test is skipped where it is missing."""
    folder = Path(os.environ.get("SENTRYFUSE_DATA") or ROOT.parent / "shared" / "data")

    def find(name: str) -> Path:
        path = folder / name
        if not path.is_file():
            pytest.skip(f"no {name} here; set SENTRYFUSE_DATA to the folder that has it")
        return path

    return find


@pytest.hookimpl(optionalhook=True)  # there is no pytest-xdist on a device
def pytest_xdist_make_scheduler(config, log):
    """Tests of a room share slow things (an export, a training), so one process runs a room."""
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class ByRoom(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return nodeid.split("::")[0].rpartition("/")[0]

    return ByRoom(config, log)
