"""Every parser that meets bytes from outside: whole inputs of it, how it is called, what it may raise.

| parser | where the bytes come from |
| --- | --- |
| mqtt json, mqtt binary | anybody who may publish |
| csv replay, table guess, dialect, ts, parquet, npz, foreign npz, npy | recordings of others |
| bundle header, bundle manifest, signature, public key | files that are copied to a device |
| trace, profile, policy, health rules, recipe, results | files that people write or tools made elsewhere |
| budget, sensors | requests over HTTP |
| sysfs | drivers |

A parser may raise what it says it raises, nothing else, and no warning. What it lets through is looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.reliability.of_devices import (
    budget,
    bundle_header,
    bundle_manifest,
    health,
    mqtt_binary,
    mqtt_json,
    policy,
    profile,
    public_key,
    results,
    sensors,
    signature,
    sysfs,
    trace,
)
from benchmarks.reliability.of_recordings import (
    csv_replay,
    dialect,
    foreign_npz,
    npy,
    npz,
    parquet,
    recipe,
    table_guess,
    ts,
)
from benchmarks.reliability.opened import Opened

# Inputs of each in a campaign of ten million: cheap parsers, and those that anybody reaches, get most.
SHARES: dict[Callable[[Path], Opened], int] = {
    mqtt_json: 6_150_000,
    mqtt_binary: 1_000_000,
    csv_replay: 200_000,
    dialect: 200_000,
    table_guess: 10_000,
    recipe: 40_000,
    ts: 100_000,
    parquet: 50_000,
    npz: 60_000,
    foreign_npz: 30_000,
    npy: 60_000,
    trace: 350_000,
    profile: 350_000,
    policy: 350_000,
    health: 350_000,
    results: 100_000,
    budget: 170_000,
    sensors: 100_000,
    bundle_header: 60_000,
    bundle_manifest: 10_000,
    signature: 100_000,
    public_key: 80_000,
    sysfs: 100_000,
}
PARSERS = {make.__name__: make for make in SHARES}
