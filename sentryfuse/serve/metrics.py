"""The state of a stream as Prometheus text, by its client library."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from sentryfuse.runtime.times import BUCKETS_S, Times
from sentryfuse.serve.board import Board


class _OfBoard(Collector):
    """Reads the board when somebody asks; the stream does nothing for it."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def collect(self) -> Iterable[Metric]:
        """All families, as they are now."""
        board, runtime = self._board, self._board.runtime
        yield _counter("sentryfuse_windows", "Windows by status.", "status", dict(board.statuses))
        events = dict(board.counted["events"])
        yield _counter("sentryfuse_events", "What happened, by kind.", "kind", events)
        yield CounterMetricFamily(
            "sentryfuse_switches", "Times another sub-network took over.", events.get("switch", 0)
        )
        yield CounterMetricFamily(
            "sentryfuse_dropped_windows", "Windows dropped, since the machine was behind.", runtime.dropped
        )
        yield _histogram("sentryfuse_latency_seconds", "Time of the sub-network alone.", board.latency)
        yield _histogram(
            "sentryfuse_delay_seconds", "Time from the cut of a window to its answer.", board.delay
        )
        yield _histogram("sentryfuse_build_seconds", "Time to build a sub-network.", runtime.serving.builds)
        yield _gauge("sentryfuse_queue_windows", "Windows cut and not answered yet.", runtime.waiting)
        yield _gauge(
            "sentryfuse_backlog_windows", "Windows that have ended and are overdue.", runtime.overdue()
        )
        counts = {str(outcome): n for outcome, n in runtime.serving.offers.counts.items()}
        del counts["waiting"]
        yield _counter("sentryfuse_bundles", "Bundles that were offered, by outcome.", "outcome", counts)
        yield from self._latest()
        scrub = runtime.scrub
        faults = dict(scrub.faults)
        yield _counter("sentryfuse_memory_faults", "Found changed in memory.", "part", faults)
        yield CounterMetricFamily(
            "sentryfuse_memory_passes", "Times all of the bundle's memory was right.", scrub.passes
        )
        age_s = scrub.age_s
        yield _gauge(
            "sentryfuse_memory_age_seconds", "Since what was looked at longest ago was right.", age_s
        )
        plan = runtime.plan
        yield _gauge("sentryfuse_plan_macs", "Multiply-accumulates of the plan in force.", plan.cost.macs)
        yield _gauge("sentryfuse_plan_dense_macs", "The same without pruning.", plan.dense.macs)
        yield _gauge("sentryfuse_plan_weights_bytes", "Its weights.", 1e6 * plan.cost.weights_mb)
        limits = GaugeMetricFamily("sentryfuse_budget", "Limits of one window, by name.", labels=["limit"])
        for name, value in runtime.budget.limits.items():
            limits.add_metric([name], value)
        yield limits
        yield from self._power()

    def _latest(self) -> Iterable[Metric]:
        rows = self._board.latest(1)
        up = GaugeMetricFamily(
            "sentryfuse_sensor_up", "Whether the latest window could use a sensor.", labels=["sensor"]
        )
        said = GaugeMetricFamily(
            "sentryfuse_sensor_verdict", "Why a sensor is used or not.", labels=["sensor", "verdict"]
        )
        for row in rows:
            for name, verdict in row["verdicts"].items():
                up.add_metric([name], verdict == "ok")
                said.add_metric([name, verdict], 1)
            if row["age_s"] is not None:
                yield _gauge("sentryfuse_answer_age_seconds", "Age of the latest answer.", row["age_s"])
        yield up
        yield said
        yield _gauge("sentryfuse_ready", "1 as long as /readyz says so.", not self._board.why_not_ready())

    def _power(self) -> Iterable[Metric]:
        reading = self._board.runtime.reading
        if reading is None:
            return
        label = str(reading.label)
        for name, text, value in (
            ("sentryfuse_power_watts", "Drawn now, with how it is known.", reading.power_w),
            ("sentryfuse_energy_joules", "Drawn since the meter was opened.", reading.energy_j),
            ("sentryfuse_charge_ratio", "Left in the battery, 0 to 1.", reading.charge),
        ):
            if value is not None:
                gauge = GaugeMetricFamily(name, text, labels=["label"])
                gauge.add_metric([label], value)
                yield gauge


class Metrics:
    """Prometheus text of one board.

    Args:
        board: what is told.
    """

    def __init__(self, board: Board) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_OfBoard(board))

    def text(self) -> bytes:
        """The text format 0.0.4."""
        return generate_latest(self._registry)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, float(value))


def _counter(name: str, text: str, label: str, counts: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, n in sorted(counts.items()):
        family.add_metric([value], n)
    return family


def _histogram(name: str, text: str, times: Times) -> Metric:
    buckets, so_far = [], 0
    for bound, n in zip((*map(str, BUCKETS_S), "+Inf"), tuple(times.counts), strict=True):
        so_far += n
        buckets.append((bound, so_far))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=times.total_s)
