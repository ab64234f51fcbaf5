from __future__ import annotations

import pytest

from sentryfuse.power.ina3221 import Ina3221Meter
from sentryfuse.power.reading import MeterImplausible, MeterUnavailable
from tests.power.trees import ina, make_unreadable, write

pytestmark = pytest.mark.device


def test_power_is_volts_times_amperes_and_energy_the_area_below(tmp_path):
    ina(tmp_path, in1_input=5000, curr1_input=1000)
    meter = Ina3221Meter(10.0, root=tmp_path)
    ina(tmp_path, in1_input=5000, curr1_input=3000)
    reading = meter.read(12.0)
    assert (reading.power_w, reading.energy_j, reading.since_s) == (15.0, 20.0, 10.0)
    assert (reading.label, reading.scope, reading.updates) == ("measured-onboard", "VDD_IN", 1)


def test_the_input_of_the_module_is_read_whichever_channel_and_chip_has_it(tmp_path):
    write(tmp_path / "class" / "hwmon" / "hwmon0", name="coretemp")
    ina(tmp_path, 1, in1_label="VDD_CPU_CV")
    ina(tmp_path, 2, in1_label="NC", in3_label="VDD_IN", in3_input=19_000, curr3_input=500)
    reading = Ina3221Meter(0.0, root=tmp_path).read(0.0)
    assert (reading.scope, reading.power_w) == ("VDD_IN", 9.5)


def test_rails_that_are_none_are_skipped(tmp_path):
    ina(tmp_path, in1_label="NC", in2_label="VDD_X", in2_enable=0, in3_label="sum of shunt voltages")
    ina(tmp_path, in7_label="sum of shunt voltages", in7_input=3, in1_label="nc")
    with pytest.raises(MeterUnavailable, match="without a connected rail"):
        Ina3221Meter(0.0, root=tmp_path)


def test_an_unknown_rail_is_better_than_none_and_named(tmp_path):
    ina(tmp_path, in1_label="VDD_SOMETHING", in1_enable=1)
    assert Ina3221Meter(0.0, root=tmp_path).read(0.0).scope == "VDD_SOMETHING"


def test_a_long_gap_begins_a_new_count(tmp_path):
    ina(tmp_path)
    meter = Ina3221Meter(0.0, root=tmp_path)
    reading = meter.read(60.0)
    assert (reading.energy_j, reading.since_s) == (0.0, 60.0)


def test_a_negative_current_lies(tmp_path):
    ina(tmp_path)
    meter = Ina3221Meter(0.0, root=tmp_path)
    ina(tmp_path, curr1_input=-20)
    with pytest.raises(MeterImplausible, match=r"VDD_IN is negative: 5000 mV, -20 mA"):
        meter.read(1.0)


def test_a_still_rail_is_frozen_only_after_a_minute_and_a_hundred_readings(tmp_path):
    ina(tmp_path)
    meter = Ina3221Meter(0.0, root=tmp_path)
    for i in range(99):
        meter.read(float(i))
    with pytest.raises(MeterImplausible, match="frozen"):
        meter.read(100.0)
    slow = Ina3221Meter(0.0, root=tmp_path)
    for i in range(99):
        slow.read(60.0 * i)


def test_a_chip_that_goes_away_or_cannot_be_read_is_told_in_words(tmp_path):
    folder = ina(tmp_path)
    meter = Ina3221Meter(0.0, root=tmp_path)
    make_unreadable(folder / "curr1_input")
    with pytest.raises(MeterUnavailable, match="curr1_input of hwmon0: input/output error"):
        meter.read(1.0)
    ina(tmp_path, in1_input=None)
    with pytest.raises(MeterUnavailable, match="in1_input of hwmon0: no such file"):
        meter.read(2.0)


def test_another_sensor_that_cannot_be_read_does_not_stand_in_the_way(tmp_path):
    other = write(tmp_path / "class" / "hwmon" / "hwmon0", name="x")
    make_unreadable(other / "name")
    with pytest.raises(MeterUnavailable, match="name of hwmon0: input/output error"):
        Ina3221Meter(0.0, root=tmp_path)
    ina(tmp_path, 1)
    assert Ina3221Meter(0.0, root=tmp_path).read(0.0).power_w == 5.0
