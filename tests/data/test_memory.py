"""A small file cannot ask for much memory or time: what its headers say is judged before values are made."""

from __future__ import annotations

import io
import resource
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sentryfuse.data import load_windows
from sentryfuse.data.checks import check_names
from sentryfuse.errors import ConfigError, DataError

pytestmark = pytest.mark.device

CODE = """
import resource, sys, time
resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30, 2 * 2**30))
from sentryfuse.data import load_windows
from sentryfuse.errors import DataError
began = time.process_time()
try:
    load_windows(sys.argv[1])
except DataError as error:
    print(error)
# not ru_maxrss, which a process takes over from the one that started it
status = open("/proc/self/status").read()
peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
print(peak < 300 or peak, time.process_time() - began < 20)
"""


def header(shape: tuple[int, ...], dtype: str) -> bytes:
    written = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        written, {"shape": shape, "fortran_order": False, "descr": np.dtype(dtype).str}
    )
    return written.getvalue()


def recording(path: Path, bombs: dict[str, tuple[tuple[int, ...], str]], **changes: object) -> Path:
    """A right recording in which some arrays are zeros of any shape, packed."""
    arrays = {
        "modalities": np.array(["bvp"]),
        "x_bvp": np.zeros((40, 8, 1), np.float32),
        "rate_bvp": 8.0,
        "y": np.arange(40) % 2,
        "subject": np.arange(40) // 10,
        **changes,
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for key, value in arrays.items():
            if key not in bombs:
                stream = io.BytesIO()
                np.save(stream, np.asarray(value))
                archive.writestr(f"{key}.npy", stream.getvalue())
        for key, (shape, dtype) in bombs.items():
            size = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
            with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                member.write(header(shape, dtype))
                for start in range(0, size, 1 << 24):
                    member.write(bytes(min(1 << 24, size - start)))
    return path


BIG = 160_000_000  # bytes, half as much again as a refusal may take; packed below 1 MB
Bombs = dict[str, tuple[tuple[int, ...], str]]
BOMBS: dict[str, tuple[Bombs, dict[str, object], str]] = {
    "no steps and any number of channels": (
        {"x_bvp": ((40, 0, 10**12), "f4")},
        {},
        "nothing inside",
    ),
    "no windows": ({"x_bvp": ((0, 10**12, 10**12), "f4")}, {}, "steps"),
    "more channels than any model takes": ({"x_bvp": ((40, 1, BIG // 40), "i1")}, {}, "channels"),
    "more steps than any model takes": ({"x_bvp": ((40, BIG // 40, 1), "i1")}, {}, "steps"),
    "four axes": ({"x_bvp": ((40, 1, 1, BIG // 40), "i1")}, {}, "must be .windows, steps, channels"),
    "other windows than labels": ({"x_bvp": ((BIG, 1, 1), "i1")}, {}, "but 40 windows"),
    "numbers nobody measures": ({"x_bvp": ((40, 8, BIG // 2560), "c8")}, {}, "complex64"),
    "labels of other windows": ({"y": ((BIG,), "i1")}, {}, "y has shape"),
    "people of other windows": ({"subject": ((BIG,), "i1")}, {}, "subject has shape"),
    "split of other windows": ({"split": ((BIG,), "i1")}, {}, "split has shape"),
    "a name without end": ({"modalities": ((1,), f"<U{BIG // 4}")}, {}, "modalities takes"),
    "many names": ({"modalities": ((BIG // 8,), "<U2")}, {}, "modalities takes"),
    "a licence without end": ({"licence": ((1,), f"S{BIG}")}, {}, "licence takes"),
    "a rate of many numbers": ({"rate_bvp": ((BIG // 8,), "f8")}, {}, "rate_bvp takes"),
    "channel names without end": ({"channels_bvp": ((1,), f"<U{BIG // 4}")}, {}, "channels_bvp takes"),
    "class names without end": ({"classes": ((2,), f"<U{BIG // 8}")}, {}, "classes takes"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_is_refused_in_little_memory(name, tmp_path):
    bombs, changes, words = BOMBS[name]
    path = recording(tmp_path / "bomb.npz", bombs, **changes)
    assert path.stat().st_size < 3_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=words) as caught:
        load_windows(path)
    assert len(str(caught.value)) < 1000
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 100_000  # KiB


def test_the_first_of_them_is_refused_in_a_process_of_two_gigabytes(tmp_path):
    path = recording(tmp_path / "bomb.npz", {"x_bvp": ((40, 0, 10**12), "f4")})
    done = subprocess.run([sys.executable, "-c", CODE, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "True True"


@pytest.mark.parametrize("twice", [False, True])
def test_many_sensor_names_take_no_time(twice):
    names = [f"s{i}" for i in range(200_000)] + ["s7"] * twice
    began = time.process_time()
    with pytest.raises(DataError, match=r"names 20000[01] modalities, more than 4096"):
        check_names("r", names)
    names = [f"s{i}" for i in range(4000)] + ["s7"] * twice
    if twice:
        with pytest.raises(DataError, match="modality s7 is named twice"):
            check_names("r", names)
    else:
        check_names("r", names)
    assert time.process_time() - began < 2


def test_the_limit_can_be_set_from_outside(tmp_path, monkeypatch):
    path = recording(tmp_path / "good.npz", {})
    for text in ("0.001", "20", " 1e3 "):
        monkeypatch.setenv("SENTRYFUSE_MAX_GB", text)
        assert len(load_windows(path)) == 40
    monkeypatch.setenv("SENTRYFUSE_MAX_GB", "1e-6")
    with pytest.raises(DataError, match=r"over the limit of 0.001 MB; .*SENTRYFUSE_MAX_GB"):
        load_windows(path)
    for text in ("", "x", "nan", "inf", "-1", "0", "1e300"):
        monkeypatch.setenv("SENTRYFUSE_MAX_GB", text)
        if text == "":
            assert len(load_windows(path)) == 40
            continue
        with pytest.raises(ConfigError, match=r"SENTRYFUSE_MAX_GB is .*; give a number of gigabytes"):
            load_windows(path)
        assert len(load_windows(path, max_bytes=10**6)) == 40
