from __future__ import annotations

import pytest

from sentryfuse.errors import ConfigError
from sentryfuse.power import CallbackMeter, open_reader
from sentryfuse.power.reading import MeterImplausible, MeterUnavailable

pytestmark = pytest.mark.device


class Instrument:
    def __init__(self, **answer):
        self.answer = answer

    def __call__(self):
        return self.answer


def meter_of(instrument, *tells, label="measured-external", **settings):
    return CallbackMeter(instrument, tells={*tells}, label=label, scope="bench", **settings)


def test_what_the_function_says_is_what_the_reading_says():
    meter = meter_of(Instrument(charge=0.5, cap_w=8, power_w=None), "charge", "cap_w", "power_w")
    reading = meter.read(3.0)
    assert (reading.charge, reading.cap_w, reading.power_w, reading.energy_j) == (0.5, 8.0, None, None)
    assert (reading.label, reading.scope, reading.at_s) == ("measured-external", "bench", 3.0)


def test_energy_is_counted_from_the_first_reading_on_or_integrated():
    instrument = Instrument(energy_j=100.0)
    meter = meter_of(instrument, "energy_j")
    assert meter.read(1.0).energy_j == 0.0
    instrument.answer = {"energy_j": 130.0}
    reading = meter.read(2.0)
    assert (reading.energy_j, reading.since_s, reading.updates) == (30.0, 1.0, 1)
    instrument.answer = {"energy_j": 10.0}
    with pytest.raises(MeterUnavailable, match="fell from 130 to 10 J"):
        meter.read(3.0)
    powered = meter_of(Instrument(power_w=4.0), "power_w")
    powered.read(0.0)
    assert powered.read(2.0).energy_j == 8.0


def test_an_unknown_energy_ends_the_count():
    instrument = Instrument(energy_j=1.0)
    meter = meter_of(instrument, "energy_j")
    meter.read(0.0)
    instrument.answer = {}
    assert meter.read(1.0).energy_j is None
    instrument.answer = {"energy_j": 5.0}
    reading = meter.read(2.0)
    assert (reading.energy_j, reading.since_s) == (0.0, 2.0)


def test_generic_constants_never_become_joules():
    meter = meter_of(Instrument(energy_j=100.0), "energy_j", label="modelled-generic")
    assert meter.read(1.0).energy_j is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, "3", True, [1], 1.5])
def test_what_cannot_be_a_charge_is_trouble(value):
    with pytest.raises(MeterUnavailable, match="answered charge"):
        meter_of(Instrument(charge=value), "charge").read(0.0)


@pytest.mark.parametrize("function", [lambda: 1 / 0, lambda: None, lambda: 3, lambda: [1]])
def test_a_function_that_fails_or_answers_something_else_is_trouble(function):
    with pytest.raises(MeterUnavailable, match="the callback failed: "):
        meter_of(function, "charge").read(0.0)


def test_a_frozen_instrument_lies_where_the_user_says_that_it_should_move():
    meter = meter_of(Instrument(power_w=3.0), "power_w", frozen_s=10.0)
    meter.read(0.0)
    meter.read(9.0)
    with pytest.raises(MeterImplausible, match="frozen"):
        meter.read(10.0)
    quiet = meter_of(Instrument(power_w=3.0), "power_w")
    for now_s in range(0, 10_000, 100):
        quiet.read(float(now_s))


def test_names_and_labels_that_do_not_exist_are_refused():
    with pytest.raises(ConfigError, match="cannot tell volts; choose of power_w, energy_j, charge, cap_w"):
        meter_of(dict, "volts")
    with pytest.raises(ConfigError, match="cannot tell nothing"):
        meter_of(dict)
    with pytest.raises(ConfigError, match="label 'measured' is unknown"):
        meter_of(dict, "charge", label="measured")


def test_a_reader_over_a_callback_outlives_it():
    instrument = Instrument(charge=0.5)
    reader = open_reader(meter_of(instrument, "charge"), needs="charge", now_s=0.0)
    assert reader.read(1.0).charge == 0.5
    instrument.answer = {"charge": float("nan")}
    reading = reader.read(2.0)
    assert (reading.label, reading.charge) == ("none", None)
    assert len(reading.notes) == 2
    instrument.answer = {"charge": 0.4}
    assert reader.read(6.0).charge is None, "not tried again yet"
    reading = reader.read(7.0)
    assert (reading.charge, reading.notes) == (0.4, ("power from callback (bench), measured-external",))
