"""Switches, soak and outage at small counts; and that what judges them notices what is wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.reliability import outage, soak, switches
from benchmarks.reliability.evidence import Evidence
from benchmarks.reliability.processes import MOSQUITTO, Heartbeat, slope
from benchmarks.reliability.publisher import BUNDLE as PUBLISHED
from sentryfuse.bundle import load_bundle

BUNDLE = load_bundle(PUBLISHED)
WINDOWS = 60


class Kept(switches.Judge):
    """Keeps what it judges."""

    def __init__(self):
        self.results = []
        super().__init__(BUNDLE, switches.Alone(BUNDLE), WINDOWS)

    def see(self, result):
        self.results.append(result)
        super().see(result)


@pytest.fixture(scope="module")
def answered():
    """A stream that switched: how often depends on the machine, and after a seldom one another follows."""
    for block in range(1, 11):
        judge = Kept()
        switches.answer(BUNDLE, WINDOWS, judge, waits_ms=5000.0, seed=(1, block))
        judge.end()
        if judge.tally["switches"] > 3 or any(judge.wrong.values()):
            break
    return judge


def judged(results):
    judge = switches.Judge(BUNDLE, switches.Alone(BUNDLE), WINDOWS)
    for result in results:
        judge.see(result)
    judge.end()
    return {what: n for what, n in judge.wrong.items() if n}


def test_producers_that_change_what_is_asked_get_every_window_once_and_unmixed(answered):
    assert not any(answered.wrong.values())
    assert answered.tally["switches"] > 3
    assert len(answered.results) == WINDOWS


def test_a_judge_notices_windows_that_are_lost_doubled_swapped_or_mixed(answered):
    results = answered.results
    assert judged(results) == {}
    assert judged(results[:7] + results[8:])["lost"] == 1
    assert judged([*results[:8], *results[7:]]) == {"doubled": 1}
    assert judged([*results[:7], results[8], results[7], *results[9:]])["out of order"] > 0
    at = next(k for k, r in enumerate(results) if r.status in ("OK", "DEGRADED"))
    wrong = results[at].probabilities + np.float32(2e-5)
    assert judged([replace(results[at], probabilities=wrong)]) == {"mixed": 1, "lost": WINDOWS - 1}
    other = next(r for r in results if r.plan_id not in (None, results[at].plan_id))
    lied = replace(results[at], plan=other.plan, plan_id=other.plan_id)
    assert judged([lied])["mixed"] == 1


@pytest.mark.campaign
def test_switches_go_on_where_they_were(tmp_path):
    first = switches.run(tmp_path / "switches.json", count=500, seed=2)
    more = switches.run(tmp_path / "switches.json", count=1000, seed=2)
    assert not any(more["wrong"].values())
    assert more["done"] >= 1000 > first["done"] - 500
    assert more["tally"]["blocks"] > first["tally"]["blocks"]
    assert more["starts"] == 2
    assert more["tally"]["built"] > 10


@pytest.mark.campaign
def test_a_short_soak_holds_its_files_and_threads(tmp_path):
    found = soak.run(tmp_path / "soak.json", count=20)
    memory = "resident memory grew by a MiB in the second half"  # of ten seconds, which says nothing
    assert not any(n for what, n in found["wrong"].items() if what != memory)
    assert found["windows"] > 1000
    assert found["events"]["switch"] > 10
    assert found["events"]["budget"] > 2
    assert len(found["minutes"]) == 10


def test_a_slope_is_that_of_a_line():
    times = [0.0, 1.0, 2.0, 5.0]
    assert slope(times, [3 - 2 * t for t in times]) == pytest.approx(-2)
    assert slope([1.0], [5.0]) == 0


@pytest.mark.campaign
@pytest.mark.skipif(MOSQUITTO is None, reason="no mosquitto broker here; apt-get install mosquitto")
def test_a_short_outage_and_a_short_chaos(tmp_path):
    pytest.importorskip("paho.mqtt", reason="paho-mqtt is not installed; pip install 'sentryfuse[mqtt]'")
    found = outage.run(tmp_path / "outage.json", count=25)
    assert not any(found["wrong"].values())
    assert found["outage"]["statuses"]["REFUSED"] > 0
    assert sum(found["chaos"]["kills"].values()) > 0


def sent(name, rate_hz, seconds, n):
    """Messages of a sensor, confirmed at once."""
    return [
        {"kind": kind, "sensor": name, "taken_s": t, "n": n, "confirmed_s": t + n / rate_hz}
        for t in np.arange(0, seconds, n / rate_hz)
        for kind in ("tried", "sent")
    ]


def window(number, *, acc="ok", temp="ok"):
    present = [name for name, said in (("acc", acc), ("temp", temp), ("age", "ok")) if said == "ok"]
    end_s = 10.0 + number
    status = "OK" if len(present) == 3 else "DEGRADED"
    verdicts = {"acc": acc, "temp": temp, "age": "ok"}
    return {
        "kind": "window", "window_id": number, "end_s": end_s, "at_s": end_s + 0.1, "status": status,
        "present": present, "verdicts": verdicts,
    }  # fmt: skip


def evidence(windows, *, messages=None, events=(), pauses=()):
    messages = [*sent("acc", 16.0, 40, 4), *sent("temp", 4.0, 40, 1)] if messages is None else messages
    return Evidence([*windows, {"kind": "summary"}], events, messages, pauses, wait_s=0.5)


def wrong(found):
    return {what: n for what, n in found.wrong().items() if n}


def test_evidence_notices_what_was_sent_and_not_used_and_the_other_way_round():
    healthy = [window(k) for k in range(10)]
    assert wrong(evidence(healthy)) == {}
    gap = [*healthy[:4], window(4, acc="silent"), *healthy[5:]]
    assert wrong(evidence(gap)) == {"sent but not used": 1}
    assert wrong(evidence(gap, pauses=[(13.0, 14.0)])) == {}
    lost = [{"kind": "source_lost", "at_s": 13.0}, {"kind": "source_back", "at_s": 14.0}]
    assert wrong(evidence(gap, events=lost)) == {}
    half = [m for m in [*sent("acc", 16.0, 40, 4), *sent("temp", 4.0, 40, 1)] if not 11 < m["taken_s"] < 13]
    assert wrong(evidence(healthy, messages=half))["used but not sent"] > 3
    unheard = [m for m in [*sent("acc", 16.0, 40, 4), *sent("temp", 4.0, 40, 1)] if m["kind"] == "tried"]
    assert wrong(evidence(healthy, messages=unheard)) == {}  # confirmed to nobody, and yet used
    assert wrong(evidence(healthy[:3] + healthy[4:])) == {"window ids with a gap or twice": 1}


def test_a_pause_of_the_machine_touches_what_overlaps_it():
    heart = Heartbeat()
    heart.pauses.append((5.0, 6.0))
    assert not heart.was_calm(5.5, 9.0)
    assert not heart.was_calm(1.0, 5.1)
    assert heart.was_calm(6.5, 9.0)
    assert heart.was_calm(1.0, 5.0)
