"""Parsers of what reaches a device: messages, bundles, requests, settings, the files of drivers."""

from __future__ import annotations

import json
import math
import random
import struct
import zlib
from pathlib import Path
from typing import Any

from benchmarks.reliability.mutate import Mutator
from benchmarks.reliability.opened import GOLDEN, Opened, modalities, of_files


def mqtt_json(room: Path) -> Opened:
    """One message, tried for each of three sensors; of every fourth the names of its parts are told."""
    import numpy as np

    from sentryfuse.stream.packet import Packet, is_well_formed
    from sentryfuse.stream.payload import Fields, UnreadableError, read_payload

    sensors = modalities()
    known = {m.name: m for m in sensors}
    told = Fields.of("ts:ms", "v")

    def attempt(payload: bytes) -> None:
        fields = Fields() if zlib.crc32(payload) % 4 else told
        refused: UnreadableError | None = None
        for sensor in sensors:
            try:
                values, times = read_payload(payload, sensor, binary=False, fields=fields)
            except UnreadableError as error:
                refused = error
                continue
            assert values.dtype == np.float32
            assert values.ndim == 2
            assert values.shape[1] == sensor.n_channels
            assert len(values)
            assert times is None or times.shape == (len(values),)
            is_well_formed(Packet(sensor.name, values, times, 1.0), known)
            return
        if refused is not None:
            raise refused

    seeds = [
        b'{"t": 12.5, "values": [[1, 2, 3], [4, 5.5, null]]}',
        b'{"t": [1.0, 1.0625], "values": [[1, 2, 3], [4, 5, 6]]}',
        b'{"ts": 1764428400123, "v": [1, 2, 3], "id": "a"}',
        b'{"time": "2026-11-29T12:00:00.25Z", "data": [{"x": 1, "y": "2", "z": 3}]}',
        b'{"timestamp_ms": 1764428400123, "x": [1, 2], "y": [3, 4], "z": [5, 6]}',
        b'{"t": null, "values": [[36.5], ["NA"]]}',
        b"36.6",
        b'"36.6"',
        b"[1, 2, 3, 4, 5, 6]",
        b'{"Skin": "36.6", "uptime": 17}',
        b'{"years": 61, "weight": 80.5}',
        b'{"t": 3, "values": [61, null]}',
        b'{"unix_us": 1764428400123456, "value": "unavailable"}',
    ]
    return Opened(
        seeds, attempt, (UnreadableError,), (b'"t"', b'"ts"', b'"v"', b'"values"', b'"x"', b'"data"')
    )


def mqtt_binary(room: Path) -> Opened:
    """The same in binary."""
    from sentryfuse.stream.payload import UnreadableError, read_payload

    sensors = modalities()

    def attempt(payload: bytes) -> None:
        sensor = sensors[zlib.crc32(payload) % 3]
        values, times = read_payload(payload, sensor, binary=True)
        assert values.shape[1] == sensor.n_channels
        assert len(values)
        assert times is None or times.shape == (len(values),)

    seeds = [
        struct.pack("<d", t) + struct.pack(f"<{n}f", *range(n))
        for t in (0.0, 1.7e9, 1.7e12, math.nan)
        for n in (3, 6, 2)
    ]
    return Opened(
        seeds, attempt, (UnreadableError,), (struct.pack("<d", math.inf), struct.pack("<f", math.nan))
    )


def trace(room: Path) -> Opened:
    """A course of power to play, and what it says later."""
    from sentryfuse.errors import ConfigError
    from sentryfuse.power.trace import TraceMeter

    def read(path: Path) -> None:
        meter = TraceMeter(10.0, path=path)
        for now_s in (10.0, 500.0, 1e9):
            meter.read(now_s)

    seeds = [
        b"# a battery\ntime_s,charge\n0,1.0\n600,0.48\n1200,0.19\n",
        b"time_s,cap_w,power_w\n0,15,\n60,,7.5\n",
    ]
    return Opened(seeds, of_files(room, "x.csv", read), (ConfigError,), (b"time_s", b"charge", b"cap_w"))


def profile(room: Path) -> Opened:
    """A device profile."""
    from sentryfuse.errors import InputError
    from sentryfuse.planning.profile import DeviceProfile

    names = (
        "session",
        "embed acc",
        "join",
        "head",
        "dense layer steps",
        "dense layer tokens",
        "dense layer heads",
    )
    whole = {
        **{"format": 1, "engine": "onnxruntime", "threads": 1, "ms_per": dict.fromkeys(names, 0.125)},
        **{"p95_factor": 1.2, "safe_factor": 1.3, "cold_switch_ms": 5.5, "rss_mb": 61.5, "sparse_from": 64},
        **{
            "mj_per_ms": None,
            "energy": {"label": "modelled"},
            "about": {"device": "pi5", "made": "2026-03-02"},
        },
    }
    return Opened([json.dumps(whole).encode()], of_files(room, "x.json", DeviceProfile.load), (InputError,))


def policy(room: Path) -> Opened:
    """A power policy."""
    from sentryfuse.errors import ConfigError
    from sentryfuse.power.policy import read_policy

    seeds = [
        b'{"format": 1, "watch": "charge", "levels": [{"budget": {"ratio": 0.0}}, '
        b'{"at": 0.5, "back_at": 0.6, "budget": {"ratio": 0.4}}, '
        b'{"at": 0.2, "budget": {"ratio": 0.8, "macs": 1000}}], "dwell_s": 30, "lost_after_s": 60}',
    ]
    return Opened(
        seeds, of_files(room, "x.json", read_policy), (ConfigError,), (b'"cap_w"', b'"at"', b'"macs"')
    )


def health(room: Path) -> Opened:
    """Rules of health."""
    from sentryfuse.errors import ConfigError
    from sentryfuse.stream.health import read_rules

    seeds = [b'{"good_windows": 1, "max_gap": 0.3, "stuck_samples": 64, "stuck_samples_of": {"temp": 0}}']
    return Opened(seeds, of_files(room, "x.json", lambda path: read_rules(str(path))), (ConfigError,))


def results(room: Path) -> Opened:
    """Files of results that `report` puts together."""
    from sentryfuse.errors import InputError
    from sentryfuse.report.merge import merge_results

    row = {
        "present": ["a"],
        "missing_rate": None,
        "ratio": 0.0,
        "protocol": "present",
        "scorer": "gate",
        "accuracy": 0.9,
    }
    bench = {
        "name": "dense",
        "present": ["a"],
        "ratio": 0.0,
        "engine": "x",
        "threads": 1,
        "macs": 5,
        "latency_ms": {"p50": 1.0, "p95": 2.0, "p99": 3.0},
    }
    seeds = [
        json.dumps(
            {
                "rows": [row, {**row, "ratio": 0.6}],
                "dataset": "d",
                "backbone": "b",
                "split": "test",
                "seed": 0,
            }
        ).encode(),
        json.dumps({"evaluation": {"rows": [row]}, "bench": [bench], "title": "t"}).encode(),
    ]
    return Opened(seeds, of_files(room, "x.json", lambda path: merge_results([path])), (InputError,))


def live(room: Path) -> Any:
    """A runtime of the tiny bundle over a short recording."""
    from sentryfuse.bundle import load_bundle
    from sentryfuse.runtime import Runtime
    from sentryfuse.stream import open_source

    bundle = load_bundle(GOLDEN / "tiny-v3.bundle")
    heads = [f"{m.name}.{c}" for m in bundle.layout.modalities for c in m.channels]
    rows = [f"{i / 16},{','.join('1' for _ in heads)}" for i in range(64)]
    (room / "live.csv").write_text("\n".join([f"time_s,{','.join(heads)}", *rows]))
    return Runtime(bundle, open_source(f"replay:{room / 'live.csv'}", bundle.layout.modalities))


def budget(room: Path) -> Opened:
    """A budget that is asked for over HTTP."""
    from sentryfuse.errors import InputError
    from sentryfuse.serve.control import change_budget

    runtime = live(room)
    seeds = [
        b'{"ratio": 0.6}',
        b'{"macs": 30000, "memory_mb": 2.5}',
        b'{"latency_ms": 5, "energy_mj": null}',
        b'{"ratio": 0.5, "protocol": "full"}',
        b"{}",
    ]
    return Opened(
        seeds, lambda body: change_budget(runtime, body), (InputError,), (b'"macs"', b'"ratio"', b'"present"')
    )


def sensors(room: Path) -> Opened:
    """Sensors that are asked for over HTTP."""
    from sentryfuse.errors import InputError
    from sentryfuse.serve.control import change_present

    runtime = live(room)
    seeds = [b'{"sensors": ["acc", "temp"]}', b'{"sensors": null}', b'{"sensors": ["age"]}']
    return Opened(seeds, lambda body: change_present(runtime, body), (InputError,))


def bundle_header(room: Path) -> Opened:
    """The first bytes of a bundle: length and JSON of its tensors."""
    from sentryfuse.bundle import load_bundle
    from sentryfuse.errors import BundleError

    good = (GOLDEN / "tiny-v3.bundle").read_bytes()
    end = 8 + int.from_bytes(good[:8], "little")
    body = good[end:]

    def inputs(mutator: Mutator, rng: random.Random) -> bytes:
        if rng.random() < 0.2:
            return mutator.change(good[:8]) + good[8:]
        header = mutator.next()
        return len(header).to_bytes(8, "little") + header + body

    return Opened(
        [good[8:end]], of_files(room, "x.bundle", load_bundle), (BundleError,), (b"F32", b"U8"), inputs
    )


def bundle_manifest(room: Path) -> Opened:
    """The manifest of a bundle with every kind of step, under a seal that fits."""
    from benchmarks.reliability.made import everything
    from benchmarks.reliability.mutants import sealed, taken_apart
    from sentryfuse.bundle import load_bundle, save_bundle
    from sentryfuse.errors import BundleError

    manifest, tensors = everything()
    save_bundle(room / "made.bundle", manifest=manifest, tensors=tensors)
    manifest, tensors = taken_apart((room / "made.bundle").read_bytes())
    text = json.dumps(manifest, sort_keys=True).encode()

    def inputs(mutator: Mutator, rng: random.Random) -> bytes:
        return sealed(mutator.next().decode("utf-8", "surrogateescape"), tensors)

    return Opened([text], of_files(room, "x.bundle", load_bundle), (BundleError,), (), inputs)


def signature(room: Path) -> Opened:
    """The signature beside a bundle."""
    from sentryfuse.bundle.signature import read_signer, read_verifier, signature_of, write_keys
    from sentryfuse.errors import BundleError

    private, public, _ = write_keys(room / "key")
    signer, verifier = read_signer(private), read_verifier(public)
    path = room / "x.bundle"

    def attempt(content: bytes) -> None:
        signature_of(path).write_bytes(content)
        verifier.check(path, b"content")
        assert content == good, "passes as signed"

    good = signer.line(b"content").encode()
    return Opened([good, signer.line(b"other").encode()], attempt, (BundleError,), (b"sentryfuse-signature",))


def public_key(room: Path) -> Opened:
    """A key to verify with."""
    from sentryfuse.bundle.signature import read_verifier, write_keys
    from sentryfuse.errors import ConfigError

    private, public, _ = write_keys(room / "key")
    seeds = [public.read_bytes(), private.read_bytes()]
    return Opened(
        seeds, of_files(room, "x.pub.pem", read_verifier), (ConfigError,), (b"-----BEGIN", b"-----END")
    )


TREE = {
    "class/power_supply/BAT0/type": b"Battery\n",
    "class/power_supply/BAT0/status": b"Discharging\n",
    "class/power_supply/BAT0/present": b"1\n",
    "class/power_supply/BAT0/capacity": b"71\n",
    "class/power_supply/BAT0/energy_now": b"38500000\n",
    "class/power_supply/BAT0/energy_full": b"52000000\n",
    "class/power_supply/BAT0/current_now": b"-512000\n",
    "class/power_supply/BAT0/voltage_now": b"11800000\n",
    "class/hwmon/hwmon3/name": b"ina3221\n",
    "class/hwmon/hwmon3/in1_label": b"VDD_IN\n",
    "class/hwmon/hwmon3/in1_enable": b"1\n",
    "class/hwmon/hwmon3/in1_input": b"5072\n",
    "class/hwmon/hwmon3/curr1_input": b"980\n",
    "class/powercap/intel-rapl:0/name": b"package-0\n",
    "class/powercap/intel-rapl:0/energy_uj": b"12345678\n",
    "class/powercap/intel-rapl:0/max_energy_range_uj": b"262143328850\n",
}


def sysfs(room: Path) -> Opened:
    """One attribute of a battery, a rail or a counter; the first byte says which."""
    from sentryfuse.power.battery import BatteryMeter
    from sentryfuse.power.ina3221 import Ina3221Meter
    from sentryfuse.power.rapl import RaplMeter
    from sentryfuse.power.reading import MeterImplausible, MeterUnavailable

    meters: dict[str, Any] = {"power_supply": BatteryMeter, "hwmon": Ina3221Meter, "powercap": RaplMeter}
    for name, text in TREE.items():
        (room / name).parent.mkdir(parents=True, exist_ok=True)
        (room / name).write_bytes(text)
    names = list(TREE)

    def attempt(content: bytes) -> None:
        name = names[content[0] % len(names)] if content else names[0]
        path = room / name
        path.write_bytes(content[1:])
        try:
            meter = meters[name.split("/")[1]](10.0, root=room)
            for now_s in (11.0, 12.0):
                reading = meter.read(now_s)
                for value in (reading.power_w, reading.energy_j, reading.charge):
                    assert value is None or math.isfinite(value)
        finally:
            path.write_bytes(TREE[name])

    def inputs(mutator: Mutator, rng: random.Random) -> bytes:
        number = int(rng.random() * len(names))
        return bytes((number,)) + mutator.next()

    return Opened(
        [*TREE.values()], attempt, (MeterUnavailable, MeterImplausible), (b"Unknown", b"Full"), inputs
    )
