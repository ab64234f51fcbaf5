"""Fault F17: a meter that dies or lies costs one level, is told once, and never ends the stream."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfuse.errors import ConfigError
from sentryfuse.power import Reading, open_reader
from sentryfuse.power.reader import SPECS
from sentryfuse.power.reading import EVIDENCE, MeterImplausible, MeterUnavailable, Quantity
from tests.power.trees import battery, ina, make_unreadable, open_folder, rapl, without_rights, write

pytestmark = pytest.mark.device


@pytest.fixture
def machine(tmp_path):
    """A laptop that has everything."""
    rapl(tmp_path)
    ina(tmp_path)
    battery(tmp_path, capacity=80, power_now=5_000_000)
    return tmp_path


def test_auto_takes_the_best_that_works_and_says_which(machine):
    reading = open_reader(root=machine, now_s=0.0).read(1.0)
    assert reading.label == "measured-onboard"
    assert reading.notes == ("power from rapl (package-0), measured-onboard",)


def test_auto_says_why_better_ones_did_not_work(tmp_path):
    battery(tmp_path, capacity=80)
    reader = open_reader("auto", root=tmp_path, now_s=0.0)
    reading = reader.read(1.0)
    assert reading.label == "measured-battery"
    assert reading.notes == tuple(reader.notes)
    rapl_note, ina_note, taken = reading.notes
    assert rapl_note.startswith("rapl cannot be used: powercap of class: no such file")
    assert ina_note.startswith("ina3221 cannot be used: hwmon of class: no such file")
    assert taken == "power from battery (BAT0), measured-battery"
    assert reader.read(2.0).notes == ()


def test_auto_on_a_machine_with_nothing_measures_nothing_and_says_so(tmp_path):
    reading = open_reader("auto", root=tmp_path, now_s=0.0).read(1.0)
    assert (reading.label, reading.power_w, reading.charge) == ("none", None, None)
    assert len(reading.notes) == 4
    assert reading.notes[-1] == "no power meter in use: energy not measured"


def test_auto_for_a_charge_passes_meters_that_do_not_tell_it(machine):
    reader = open_reader("auto", needs="charge", root=machine, now_s=0.0)
    assert reader.read(1.0).charge == 0.8
    assert reader.notes == ("power from battery (BAT0), measured-battery",)


def enoent(folder):
    (folder / "energy_uj").unlink()


def eio(folder):
    make_unreadable(folder / "energy_uj")


def garbage(folder):
    write(folder, energy_uj="garbage")


def negative(folder):
    write(folder, energy_uj=-7)


def frozen(folder):
    """Nothing is done to it, and so it stands still."""


def gone(folder):
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


@pytest.mark.parametrize("fault", [enoent, eio, garbage, negative, frozen, gone])
def test_a_meter_that_dies_costs_one_level_and_is_told_once(machine, fault):
    folder = rapl(machine)
    reader = open_reader("rapl", root=machine, now_s=0.0)
    for i in range(1, 5):
        write(folder, energy_uj=i * 1_000_000)
        assert reader.read(float(i)).scope == "package-0"
    fault(folder)
    readings = [reader.read(5.0 + i) for i in range(200)]
    after = [r for r in readings if r.scope != "package-0"]
    assert len(after) >= 194
    assert {(r.label, r.scope) for r in after} == {("measured-onboard", "VDD_IN")} | (
        {("measured-battery", "BAT0")} if len(after) > 100 else set()
    ), "the still rail of this machine is noticed as well, later"
    said = [note for r in readings for note in r.notes]
    assert sum(note.startswith("rapl cannot be used") for note in said) == 1
    assert said[:2] == [said[0], "power from ina3221 (VDD_IN), measured-onboard"]
    assert said[0].startswith("rapl cannot be used: ")


def test_a_meter_that_loses_its_rights_costs_one_level():
    with open_folder() as root:
        folder = rapl(root)
        battery(root, capacity=80)
        reader = open_reader("rapl", root=root, now_s=0.0)
        reader.read(1.0)
        with without_rights(folder / "energy_uj"):
            reading = reader.read(2.0)
        assert reading.label == "measured-battery"
        assert "permission denied" in reading.notes[0]


def test_down_to_the_last_level_and_back_up(machine):
    supply = battery(machine, capacity=80)
    reader = open_reader("battery", root=machine, now_s=0.0)
    assert reader.read(0.0).charge == 0.8
    make_unreadable(supply / "capacity")
    assert reader.read(10.0).label == "none"
    battery(machine, capacity=70)
    assert reader.read(14.9).label == "none", "tried again after 5 s"
    reading = reader.read(15.0)
    assert (reading.charge, reading.notes) == (0.7, ("power from battery (BAT0), measured-battery",))


def test_attempts_grow_rarer(machine):
    supply = battery(machine, capacity=80)
    reader = open_reader("battery", root=machine, now_s=0.0)
    make_unreadable(supply / "capacity")
    back = []
    for now_s in range(0, 4000, 4):
        battery(machine, capacity=80)
        if reader.read(float(now_s)).charge is not None:
            back.append(now_s)
            make_unreadable(supply / "capacity")
            reader.read(float(now_s))
    assert len(back) < 12, "a meter that comes and goes is not followed each time"
    battery(machine, capacity=80)
    assert reader.read(8000.0).charge == 0.8


def test_after_a_long_time_without_trouble_the_next_attempt_is_soon_again(machine):
    supply = battery(machine, capacity=80)
    reader = open_reader("battery", root=machine, now_s=0.0)
    make_unreadable(supply / "capacity")
    for now_s in (1.0, 6.0, 16.0):
        assert reader.read(now_s).label == "none"
    battery(machine, capacity=80)
    for now_s in (36.0, 5000.0):
        assert reader.read(now_s).charge == 0.8
    make_unreadable(supply / "capacity")
    reader.read(6000.0)
    battery(machine, capacity=80)
    assert reader.read(6004.9).charge is None
    assert reader.read(6005.0).charge == 0.8


def test_a_meter_that_lied_is_not_asked_again(machine):
    supply = battery(machine, capacity=80)
    reader = open_reader("battery", root=machine, now_s=0.0)
    write(supply, capacity=300)
    assert reader.read(1.0).label == "none"
    write(supply, capacity=80)
    assert {reader.read(float(now_s)).label for now_s in range(1, 100_000, 1000)} == {"none"}


def test_the_last_level_counts_work_as_a_ratio_and_never_tells_a_joule(tmp_path):
    reader = open_reader("none", now_s=0.0)
    assert reader.read(1.0).label == "none"
    reader.count(macs=300, dense_macs=1000)
    reader.count(macs=500, dense_macs=1000)
    reading = reader.read(2.0)
    assert (reading.label, reading.relative) == ("modelled-generic", 0.4)
    assert (reading.energy_j, reading.power_w) == (None, None)
    assert reading.notes == ("no power meter in use: work is counted, modelled-generic",)


class Own:
    """A meter of the user's own."""

    name = "own"
    tells: frozenset[Quantity] = frozenset({"power_w"})

    def __init__(self):
        self.error: Exception | None = None
        self.answer: object = Reading(at_s=0.0, label="measured-external", scope="bench", power_w=1.0)
        self.close_error: Exception | None = None

    def read(self, now_s):
        if self.error:
            raise self.error
        return self.answer

    def close(self):
        if self.close_error:
            raise self.close_error


@pytest.mark.parametrize(
    "error", [MeterUnavailable("x"), MeterImplausible("x"), OSError(5, "x"), ZeroDivisionError("x")]
)
def test_whatever_a_meter_of_the_users_raises_the_reader_answers(error):
    meter = Own()
    reader = open_reader(meter, now_s=0.0)
    assert reader.read(0.0).power_w == 1.0
    meter.error, meter.close_error = error, RuntimeError("stuck")
    reading = reader.read(1.0)
    assert reading.label == "none"
    assert [note for note in reading.notes if "could not be closed: RuntimeError: stuck" in note]


def test_what_is_no_reading_is_trouble():
    meter = Own()
    reader = open_reader(meter, now_s=0.0)
    meter.answer = 3.0
    assert "answered float, not a Reading" in " ".join(reader.read(1.0).notes)


def test_notes_do_not_pile_up(machine):
    supply = battery(machine, capacity=80)
    reader = open_reader("battery", root=machine, now_s=0.0)
    for now_s in range(0, 500_000, 3700):
        battery(machine, capacity=80)
        reader.read(float(now_s))
        make_unreadable(supply / "capacity")
        reader.read(float(now_s))
    assert len(reader.notes) == 100


def test_a_closed_reader_says_that_nothing_is_measured(machine):
    reader = open_reader("battery", root=machine, now_s=0.0)
    reader.close()
    assert reader.read(1.0).label == "none"


@given(times=st.lists(st.floats() | st.floats(0, 100), max_size=20))
def test_any_clock_is_answered(tmp_path_factory, times):
    root = tmp_path_factory.mktemp("clock")
    battery(root, capacity=80, power_now=1_000_000)
    reader = open_reader("battery", root=root, now_s=0.0)
    seen = [reader.read(now_s) for now_s in times]
    assert all(a.at_s <= b.at_s for a, b in pairwise(seen))


def test_the_clock_is_the_monotonic_one_where_none_is_given(machine):
    reader = open_reader(root=machine)
    assert reader.read().at_s <= reader.read().at_s


@pytest.mark.parametrize(
    "spec", ["", "RAPL", "rapl:0", "trace:", "trace", "nvml:x", "nvml:-1", "none:1", "wall"]
)
def test_an_unknown_spec_is_one_sentence(spec):
    with pytest.raises(ConfigError, match="is unknown; choose one of " + ", ".join(SPECS)):
        open_reader(spec)


@pytest.mark.parametrize("spec", ["rapl", "ina3221", "battery"])
def test_a_meter_asked_for_by_name_must_work(tmp_path, spec):
    with pytest.raises(ConfigError, match=f"'{spec}' cannot be used: .*; choose auto or none") as caught:
        open_reader(spec, root=tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", ["rapl", "ina3221", "nvml", "nvml:1"])
def test_a_meter_asked_for_by_name_must_tell_what_is_needed(machine, spec):
    with pytest.raises(ConfigError, match="does not tell charge, only energy_j, power_w"):
        open_reader(spec, needs="charge", root=machine)
    with pytest.raises(ConfigError, match="'own' does not tell charge"):
        open_reader(Own(), needs="charge")


def test_every_label_has_its_evidence():
    assert EVIDENCE["measured-external"] == "E0"
    assert sorted(set(EVIDENCE.values())) == ["E0", "E1", "E2", "E3", "E4", "none"]
