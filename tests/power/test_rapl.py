from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfuse.power.rapl import RaplMeter
from sentryfuse.power.reading import MeterImplausible, MeterUnavailable
from tests.power.trees import RANGE_UJ, make_unreadable, open_folder, rapl, without_rights, write

pytestmark = pytest.mark.device


def test_energy_is_counted_from_the_opening_and_power_between_readings(tmp_path):
    rapl(tmp_path, energy_uj=5_000_000)
    meter = RaplMeter(100.0, root=tmp_path)
    rapl(tmp_path, energy_uj=25_000_000)
    reading = meter.read(102.0)
    assert (reading.energy_j, reading.power_w, reading.since_s) == (20.0, 10.0, 100.0)
    assert (reading.label, reading.scope, reading.updates) == ("measured-onboard", "package-0", 1)
    rapl(tmp_path, energy_uj=28_000_000)
    reading = meter.read(103.0)
    assert (reading.energy_j, reading.power_w, reading.updates) == (23.0, 3.0, 2)


def test_packages_beside_each_other_are_added_and_nested_domains_are_not(tmp_path):
    for energy_uj in (1_000_000, 3_000_000):
        rapl(tmp_path, "0", name="package-0", energy_uj=energy_uj)
        rapl(tmp_path, "1", name="package-1", energy_uj=energy_uj)
        rapl(tmp_path, "0:0", name="core", energy_uj=7 * energy_uj)
        rapl(tmp_path, "0:1", name="dram", energy_uj=7 * energy_uj)
        rapl(tmp_path, "2", name="psys", energy_uj=7 * energy_uj)
        rapl(tmp_path, "0", name="package-0", energy_uj=energy_uj, driver="intel-rapl-mmio")
        if energy_uj == 1_000_000:
            meter = RaplMeter(0.0, root=tmp_path)
    reading = meter.read(1.0)
    assert reading.energy_j == 4.0
    assert reading.scope == "package-0+package-1"


def test_the_whole_platform_stands_in_where_no_package_is_shown(tmp_path):
    rapl(tmp_path, name="psys")
    assert RaplMeter(0.0, root=tmp_path).read(1.0).scope == "psys"


def test_amd_is_read_like_intel(tmp_path):
    rapl(tmp_path, driver="amd-rapl")
    assert RaplMeter(0.0, root=tmp_path).read(1.0).scope == "package-0"


@given(steps=st.lists(st.integers(1, 200_000_000), min_size=1, max_size=40), start=st.integers(0, RANGE_UJ))
def test_a_counter_that_wraps_loses_nothing(tmp_path_factory, steps, start):
    root = tmp_path_factory.mktemp("wrap")
    start = max(0, start if start % 2 else RANGE_UJ - start % 1_000_000)
    rapl(root, energy_uj=start)
    meter = RaplMeter(0.0, root=root)
    total = 0
    for i, step in enumerate(steps, 1):
        total += step
        rapl(root, energy_uj=(start + total) % RANGE_UJ)
        reading = meter.read(float(i))
    assert reading.energy_j == pytest.approx(total / 1e6)
    assert reading.since_s == 0.0


def test_a_counter_that_is_set_back_is_no_wrap(tmp_path):
    rapl(tmp_path, energy_uj=9_000_000_000)
    meter = RaplMeter(0.0, root=tmp_path)
    rapl(tmp_path, energy_uj=1_000_000)
    with pytest.raises(MeterUnavailable, match="was set back"):
        meter.read(1.0)


def test_after_a_gap_that_may_hide_a_wrap_the_count_begins_anew(tmp_path):
    rapl(tmp_path)
    meter = RaplMeter(0.0, root=tmp_path)
    rapl(tmp_path, energy_uj=50_000_000)
    reading = meter.read(3600.0)
    assert (reading.energy_j, reading.since_s, reading.power_w) == (0.0, 3600.0, None)


def test_power_is_not_taken_over_less_than_the_counter_can_show(tmp_path):
    rapl(tmp_path)
    meter = RaplMeter(0.0, root=tmp_path)
    rapl(tmp_path, energy_uj=1_000)
    assert meter.read(0.0).power_w is None
    rapl(tmp_path, energy_uj=100_000)
    assert meter.read(0.02).power_w == pytest.approx(5.0)


def test_a_frozen_counter_lies(tmp_path):
    rapl(tmp_path, energy_uj=77)
    meter = RaplMeter(0.0, root=tmp_path)
    for now_s in (1.0, 2.0, 3.0, 4.0):
        meter.read(now_s)
    with pytest.raises(MeterImplausible, match="frozen: the same value for 5 s"):
        meter.read(5.0)


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        ("-5", MeterImplausible, "negative"),
        ("", MeterUnavailable, "not a whole number"),
        ("12 mJ", MeterUnavailable, "says '12 mJ', not a whole number"),
        ("nan", MeterUnavailable, "not a whole number"),
        ("9" * 4000, MeterUnavailable, "not a whole number"),
        (None, MeterUnavailable, "no such file"),
    ],
)
def test_what_is_no_count_of_energy_is_told_in_words(tmp_path, value, error, words):
    rapl(tmp_path)
    meter = RaplMeter(0.0, root=tmp_path)
    rapl(tmp_path, energy_uj=value)
    with pytest.raises(error, match=words):
        meter.read(1.0)
    with pytest.raises(error, match=words):
        RaplMeter(0.0, root=tmp_path)


def test_bytes_that_are_no_text_are_told_in_words(tmp_path):
    folder = rapl(tmp_path)
    (folder / "energy_uj").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MeterUnavailable, match="is not text"):
        RaplMeter(0.0, root=tmp_path)


def test_a_counter_for_root_only_is_told_in_words():
    with open_folder() as root:
        folder = rapl(root)
        words = r"energy_uj of intel-rapl:0: permission denied"
        with without_rights(folder / "energy_uj"), pytest.raises(MeterUnavailable, match=words):
            RaplMeter(0.0, root=root)


def test_a_counter_that_cannot_be_read_is_told_in_words(tmp_path):
    folder = rapl(tmp_path)
    meter = RaplMeter(0.0, root=tmp_path)
    make_unreadable(folder / "energy_uj")
    with pytest.raises(MeterUnavailable, match="input/output error"):
        meter.read(1.0)


def test_machines_without_counters_say_so(tmp_path):
    with pytest.raises(MeterUnavailable, match="powercap of class: no such file"):
        RaplMeter(0.0, root=tmp_path)
    write(tmp_path / "class" / "powercap" / "dtpm", name="dtpm")
    with pytest.raises(MeterUnavailable, match="powercap shows no energy counter"):
        RaplMeter(0.0, root=tmp_path)
    rapl(tmp_path, name="dram")
    with pytest.raises(MeterUnavailable, match="shows no processor package"):
        RaplMeter(0.0, root=tmp_path)


def test_a_counter_without_an_end_is_not_used(tmp_path):
    write(rapl(tmp_path), max_energy_range_uj=0)
    with pytest.raises(MeterImplausible, match="ends at 0 uJ"):
        RaplMeter(0.0, root=tmp_path)
