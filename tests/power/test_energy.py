from __future__ import annotations

import pytest

from sentryfuse.errors import ConfigError
from sentryfuse.power import CallbackMeter, EnergyMeter, EnergyWindow, energy_per_piece, open_reader
from tests.power.trees import battery, rapl

pytestmark = pytest.mark.device


class Bench:
    """A machine under an instrument: draws `power_w`, time goes on in steps."""

    def __init__(self):
        self.now_s, self.energy_j, self.power_w = 0.0, 0.0, 5.0
        self.answers = True
        meter = CallbackMeter(
            lambda: {"energy_j": self.energy_j} if self.answers else {},
            tells={"energy_j"},
            label="measured-external",
            scope="bench supply",
        )
        self.meter = EnergyMeter(open_reader(meter, now_s=0.0))

    def window(self, power_w: float, *, seconds: float = 10.0, samples: int = 40) -> EnergyWindow:
        self.meter.begin(self.now_s)
        for _ in range(samples):
            self.now_s += seconds / samples
            self.energy_j += power_w * seconds / samples
            self.meter.sample(self.now_s)
        return self.meter.end(self.now_s)


def test_a_window_tells_energy_time_and_label():
    window = Bench().window(6.0)
    assert window.gross_j == pytest.approx(60.0)
    assert window.seconds == pytest.approx(10.0)
    assert (window.updates, window.refused) == (40, None)
    assert (window.label, window.scope) == ("measured-external", "bench supply")


def test_a_piece_of_work_costs_what_it_takes_above_idle():
    bench = Bench()
    idle = [bench.window(power_w) for power_w in (2.0, 2.1, 1.9)]
    work = [bench.window(power_w) for power_w in (5.0, 6.0, 5.5, 5.4, 5.6)]
    figure = energy_per_piece(work, idle, pieces=1000)
    assert figure.refused is None
    assert figure.net_mj == pytest.approx(35.0)
    assert figure.gross_mj == pytest.approx(55.0)
    assert figure.spread_mj == pytest.approx(2.0)
    assert figure.idle_w == pytest.approx(2.0)
    assert figure.idle_deviation_w == pytest.approx(0.1)
    said = figure.to_json()
    assert (said["label"], said["evidence"], said["windows"]) == ("measured-external", "E0", 5)


def test_less_than_twenty_updates_are_no_figure():
    bench = Bench()
    window = bench.window(6.0, samples=19)
    assert window.gross_j is None
    assert window.refused == (
        "the meter moved 19 times in 10 s; measure longer or sample more often, 20 are needed"
    )
    assert bench.window(6.0, samples=20).refused is None
    figure = energy_per_piece([window], [bench.window(1.0)] * 3, pieces=1)
    assert (figure.net_mj, figure.refused) == (None, window.refused)


def test_a_meter_that_stands_still_has_no_updates_however_often_it_is_asked():
    assert Bench().window(0.0).refused is not None


def test_work_within_the_idle_noise_is_no_figure():
    bench = Bench()
    idle = [bench.window(power_w) for power_w in (1.0, 2.0, 3.0)]
    figure = energy_per_piece([bench.window(4.9)], idle, pieces=10)
    assert figure.net_mj is None
    assert figure.refused is not None
    assert "took 29 J above idle, less than 3 times the idle deviation of 10 J" in figure.refused
    assert figure.idle_w == pytest.approx(2.0)
    assert energy_per_piece([bench.window(5.1)], idle, pieces=10).net_mj == pytest.approx(3100)
    steady = [bench.window(2.0)] * 3
    assert energy_per_piece([bench.window(1.0)], steady, pieces=1).net_mj is None


def test_one_window_has_no_spread():
    bench = Bench()
    figure = energy_per_piece([bench.window(5.0)], [bench.window(1.0)] * 3, pieces=1)
    assert figure.net_mj == pytest.approx(40_000)
    assert figure.spread_mj is None


def test_idle_windows_are_needed_for_a_deviation():
    bench = Bench()
    figure = energy_per_piece([bench.window(5.0)], [bench.window(1.0)] * 2, pieces=1)
    assert figure.refused == "2 idle windows tell no deviation; measure at least 3"


def test_a_meter_that_dies_in_the_window_is_no_figure(tmp_path):
    folder = rapl(tmp_path)
    battery(tmp_path, capacity=50, power_now=5_000_000)
    meter = EnergyMeter(open_reader("rapl", root=tmp_path, now_s=0.0))
    meter.begin(0.0)
    for i in range(1, 40):
        rapl(tmp_path, energy_uj=i * 100_000)
        if i == 30:
            (folder / "energy_uj").unlink()
        meter.sample(0.1 * i)
    window = meter.end(4.0)
    assert window.gross_j is None
    assert window.refused == "the meter changed from package-0 to BAT0, or began a new count"


def test_a_meter_that_dies_and_comes_back_in_the_window_is_no_figure():
    bench = Bench()
    bench.meter.begin(0.0)
    for i in range(40):
        bench.answers = i != 20
        bench.energy_j += 1
        bench.meter.sample(0.1 * i)
    window = bench.meter.end(5.0)
    assert window.refused is not None
    assert "began a new count" in window.refused


def test_without_a_meter_there_is_no_figure():
    meter = EnergyMeter(open_reader("none", now_s=0.0))
    meter.begin(0.0)
    assert meter.end(10.0).refused == "no energy is measured (none)"


def test_work_and_idle_are_measured_alike():
    def window(scope):
        return EnergyWindow(seconds=1.0, gross_j=1.0, updates=30, label="measured-onboard", scope=scope)

    figure = energy_per_piece([window("a")], [window("b")] * 3, pieces=1)
    assert figure.refused == "work and idle were not measured by the same meter"


def test_windows_are_opened_before_they_are_closed():
    meter = EnergyMeter(open_reader("none", now_s=0.0))
    for act in (meter.sample, meter.end):
        with pytest.raises(ConfigError, match="no energy window is open; call begin first"):
            act(0.0)
    meter.begin(0.0)
    meter.end(1.0)
    with pytest.raises(ConfigError, match="no energy window is open"):
        meter.end(1.0)
    with pytest.raises(ConfigError, match="energy needs windows of work and pieces in them, got 0 and 1"):
        energy_per_piece([], [], pieces=1)
