from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from sentryfuse.power.nvml import NvmlMeter
from sentryfuse.power.reading import MeterImplausible, MeterUnavailable

pytestmark = pytest.mark.device


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A real shared library with NVML's functions, called as the driver's is."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here to build the library with")
    path = tmp_path_factory.mktemp("nvml") / "libnvml_stub.so"
    source = Path(__file__).with_name("nvml_stub.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", path, source], check=True)
    return str(path)


@pytest.fixture
def driver(library):
    stub = ctypes.CDLL(library)

    def put(energy_mj=1000, power_mw=50_000, init=0, energy_code=0, power_code=0):
        stub.stub_set(ctypes.c_ulonglong(energy_mj), ctypes.c_uint(power_mw), init, energy_code, power_code)

    put()
    before = stub.stub_users()
    yield put
    assert stub.stub_users() == before, "every opening was closed"


def test_energy_comes_from_the_counter(library, driver):
    driver(energy_mj=2**40)
    meter = NvmlMeter(5.0, library=library)
    driver(energy_mj=2**40 + 30_000)
    reading = meter.read(6.0)
    assert (reading.energy_j, reading.power_w, reading.since_s) == (30.0, 30.0, 5.0)
    assert (reading.label, reading.scope, reading.updates) == ("measured-onboard", "gpu-0", 1)
    meter.close()


def test_power_is_integrated_where_there_is_no_counter(library, driver):
    driver(energy_code=3, power_mw=20_000)
    meter = NvmlMeter(0.0, index=1, library=library)
    driver(energy_code=3, power_mw=40_000)
    reading = meter.read(2.0)
    assert (reading.energy_j, reading.power_w, reading.scope) == (60.0, 40.0, "gpu-1")
    meter.close()


def test_a_counter_that_goes_back_or_stands_still_is_told_in_words(library, driver):
    meter = NvmlMeter(0.0, library=library)
    driver(energy_mj=10)
    with pytest.raises(MeterUnavailable, match="counter of gpu-0 went back"):
        meter.read(1.0)
    meter.close()
    meter = NvmlMeter(0.0, library=library)
    meter.read(5.0)
    with pytest.raises(MeterImplausible, match="frozen"):
        meter.read(10.0)
    meter.close()


def test_what_the_driver_refuses_is_told_in_its_words(library, driver):
    with pytest.raises(MeterUnavailable, match="NVML says: invalid argument"):
        NvmlMeter(0.0, index=2, library=library)
    driver(init=9)
    with pytest.raises(MeterUnavailable, match="NVML says: gpu is lost"):
        NvmlMeter(0.0, library=library)
    driver(energy_code=3, power_code=15)
    with pytest.raises(MeterUnavailable, match="gpu is lost"):
        NvmlMeter(0.0, library=library)


def test_a_missing_library_and_one_of_something_else_are_told_in_words():
    with pytest.raises(MeterUnavailable, match="comes with the NVIDIA driver"):
        NvmlMeter(0.0, library="libno-such-thing.so.1")
    with pytest.raises(MeterUnavailable, match="this NVML has no nvmlInit_v2"):
        NvmlMeter(0.0, library="libc.so.6")
