"""Every part of the campaign at a small count: what must never happen does not. `make campaign` runs it."""

from __future__ import annotations

from importlib import import_module

import pytest

pytestmark = pytest.mark.campaign

COUNTS = {  # parts and so many that each takes a minute or two
    "corrupt": 600,
    "fuzz": 20_000,
    "kills": 8,
    "switches": 2000,
    "soak": 60,
    "faults": 1,
    "outage": 60,
    "swaps": 10,
}


@pytest.mark.parametrize("name", COUNTS)
def test_nothing_that_never_may_happen_happens(tmp_path, name):
    module = f"benchmarks.reliability.{name}"
    out = tmp_path / f"{name}.json"
    found = import_module(module).run(out, count=COUNTS[name], seed=1)
    assert out.is_file()
    assert found["done"] >= COUNTS[name]
    assert not any(found["wrong"].values()), found["wrong"]
