from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfuse.power.battery import BatteryMeter
from sentryfuse.power.reading import MeterImplausible, MeterUnavailable
from tests.power.trees import battery, make_unreadable, write

pytestmark = pytest.mark.device

FULL = {
    "capacity": 70,
    "energy_now": 30_000_000,
    "energy_full": 40_000_000,
    "charge_now": 3_000_000,
    "charge_full": 5_000_000,
    "power_now": 6_000_000,
    "current_now": 500_000,
    "voltage_now": 12_000_000,
}


def test_the_finest_attribute_there_is_tells_what_is_left(tmp_path):
    for removed, charge in (((), 0.75), (("energy_now",), 0.6), (("energy_now", "charge_full"), 0.7)):
        battery(tmp_path, **FULL | dict.fromkeys(removed))
        reading = BatteryMeter(0.0, root=tmp_path).read(0.0)
        assert reading.charge == pytest.approx(charge)
        assert (reading.label, reading.scope) == ("measured-battery", "BAT0")


@given(removed=st.sets(st.sampled_from([*FULL, "status"])))
def test_any_attribute_may_be_missing(tmp_path_factory, removed):
    root = tmp_path_factory.mktemp("battery")
    battery(root, **FULL | dict.fromkeys(removed))
    tells = (
        not {"energy_now", "energy_full"} & removed
        or not {"charge_now", "charge_full"} & removed
        or "capacity" not in removed
    )
    if not tells:
        with pytest.raises(MeterUnavailable, match="BAT0 does not tell what is left"):
            BatteryMeter(0.0, root=root)
        return
    reading = BatteryMeter(0.0, root=root).read(0.0)
    assert reading.charge is not None
    assert 0 <= reading.charge <= 1
    power = "power_now" not in removed or not {"current_now", "voltage_now"} & removed
    assert reading.power_w == (6.0 if power and "status" not in removed else None)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_sign_of_a_current_does_not_matter(tmp_path, sign):
    battery(tmp_path, capacity=50, current_now=sign * 500_000, voltage_now=12_000_000)
    assert BatteryMeter(0.0, root=tmp_path).read(0.0).power_w == 6.0
    battery(tmp_path, "BAT0", power_now=sign * 6_000_000)
    assert BatteryMeter(0.0, root=tmp_path).read(0.0).power_w == 6.0


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging", "Unknown"])
def test_on_mains_the_gauge_does_not_tell_power(tmp_path, status):
    battery(tmp_path, status=status, **FULL)
    reading = BatteryMeter(0.0, root=tmp_path).read(0.0)
    assert (reading.power_w, reading.energy_j, reading.charge) == (None, None, 0.75)


def test_energy_is_the_area_below_the_power_while_it_discharges(tmp_path):
    battery(tmp_path, **FULL)
    meter = BatteryMeter(0.0, root=tmp_path)
    battery(tmp_path, **FULL | {"power_now": 12_000_000})
    assert meter.read(10.0).energy_j == pytest.approx(90.0)
    battery(tmp_path, **FULL, status="Charging")
    assert meter.read(20.0).energy_j is None
    battery(tmp_path, **FULL)
    reading = meter.read(30.0)
    assert (reading.energy_j, reading.since_s) == (0.0, 30.0)


def test_several_batteries_are_one_by_size(tmp_path):
    battery(tmp_path, "BAT0", energy_now=10, energy_full=40, power_now=1_000_000)
    battery(tmp_path, "BAT1", energy_now=10, energy_full=10, power_now=2_000_000, status="Full")
    reading = BatteryMeter(0.0, root=tmp_path).read(0.0)
    assert (reading.charge, reading.power_w, reading.scope) == (0.4, 1.0, "BAT0+BAT1")
    battery(tmp_path, "BAT1", energy_now=None, capacity=100)
    assert BatteryMeter(0.0, root=tmp_path).read(0.0).charge == 0.4
    battery(tmp_path, "BAT1", energy_full=None)
    assert BatteryMeter(0.0, root=tmp_path).read(0.0).charge == pytest.approx(0.625)


def test_mains_mice_and_empty_bays_are_no_battery(tmp_path):
    write(tmp_path / "class" / "power_supply" / "AC", type="Mains", online=1)
    battery(tmp_path, "mouse", scope="Device", capacity=5)
    battery(tmp_path, "BAT1", present=0, capacity=5)
    with pytest.raises(MeterUnavailable, match="power_supply shows no battery"):
        BatteryMeter(0.0, root=tmp_path)
    battery(tmp_path, "BAT0", present=1, scope="System", capacity=80)
    assert BatteryMeter(0.0, root=tmp_path).read(0.0).charge == 0.8


def test_a_worn_gauge_may_be_a_little_overfull(tmp_path):
    battery(tmp_path, charge_now=105, charge_full=100)
    assert BatteryMeter(0.0, root=tmp_path).read(0.0).charge == 1.0


def test_the_design_stands_in_for_a_full_amount_that_is_zero(tmp_path):
    battery(tmp_path, energy_now=30, energy_full=0, energy_full_design=60)
    assert BatteryMeter(0.0, root=tmp_path).read(0.0).charge == 0.5


@pytest.mark.parametrize("files", [{"capacity": 300}, {"capacity": -1}, {"energy_now": -3, "energy_full": 5}])
def test_what_cannot_be_left_lies(tmp_path, files):
    battery(tmp_path, **files)
    with pytest.raises(MeterImplausible, match=r"BAT0 says that -?\d+ % is left"):
        BatteryMeter(0.0, root=tmp_path)


def test_a_second_opinion_is_taken_where_the_first_cannot_be(tmp_path):
    battery(tmp_path, energy_now=900, energy_full=100, capacity=60)
    assert BatteryMeter(0.0, root=tmp_path).read(0.0).charge == 0.6


def test_a_fine_gauge_that_stands_still_while_discharging_lies(tmp_path):
    battery(tmp_path, **FULL)
    meter = BatteryMeter(0.0, root=tmp_path)
    for minute in range(30):
        meter.read(60.0 * minute)
    with pytest.raises(MeterImplausible, match="frozen: the same value for 1800 s"):
        meter.read(1800.0)


@pytest.mark.parametrize("files", [FULL | {"status": "Full"}, {"capacity": 50}])
def test_a_full_battery_and_a_coarse_gauge_may_stand_still(tmp_path, files):
    battery(tmp_path, **files)
    meter = BatteryMeter(0.0, root=tmp_path)
    for hour in range(100):
        meter.read(3600.0 * hour)


def test_a_battery_that_is_taken_out_or_cannot_be_read_is_told_in_words(tmp_path):
    folder = battery(tmp_path, **FULL)
    meter = BatteryMeter(0.0, root=tmp_path)
    make_unreadable(folder / "energy_now")
    with pytest.raises(MeterUnavailable, match="energy_now of BAT0: input/output error"):
        meter.read(1.0)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    with pytest.raises(MeterUnavailable, match="BAT0 does not tell what is left"):
        meter.read(2.0)


@pytest.mark.parametrize("trouble", [errno.ENODEV, errno.ENXIO, errno.EIO, errno.EINVAL, errno.ETIMEDOUT])
def test_a_rate_that_cannot_be_read_does_not_hide_what_is_left(tmp_path, monkeypatch, trouble):
    battery(tmp_path, energy_now=30, energy_full=40, power_now=1, current_now=1, voltage_now=1)
    usual = Path.open

    def refuse(self, *words, **more):
        if self.name in ("power_now", "current_now"):
            raise OSError(trouble, "refused")
        return usual(self, *words, **more)

    monkeypatch.setattr(Path, "open", refuse)
    reading = BatteryMeter(0.0, root=tmp_path).read(1.0)
    assert (reading.charge, reading.power_w) == (0.75, None)


def test_a_power_that_no_battery_gives_is_not_believed(tmp_path):
    battery(tmp_path, capacity=50, power_now=10**18)
    reading = BatteryMeter(0.0, root=tmp_path).read(0.0)
    assert (reading.charge, reading.power_w) == (0.5, None)


def test_a_discharging_battery_that_says_zero_does_not_know(tmp_path):
    battery(tmp_path, capacity=50, power_now=0)
    assert BatteryMeter(0.0, root=tmp_path).read(0.0).power_w is None
