"""Windows are cut from recordings: never across a gap, each sensor at its own rate.

    acc  |.|.|.|.|.|.|.|     |.|.|.|.|.|.|      a silence longer than `max_gap_s` is a gap
    hr    .     .     .     .     .     .       the other sensor goes on
    win  [----][----]           [----]          kept as they are
                     [----]                     acc is absent from these (or they are dropped, or hold NaN)

A stretch is a time without a common gap and, by the rule `whole`, with one label; windows start anew in each.
Notation: G windows cut together · T steps · C channels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sentryfuse.errors import DataError
from sentryfuse.recordings.collect import Recording
from sentryfuse.recordings.counts import Counts
from sentryfuse.recordings.recipe import Recipe, Sensor
from sentryfuse.recordings.store import WindowStore
from sentryfuse.recordings.track import Track, bounds, fill, latest

VALUES_AT_ONCE = 1 << 21  # of windows cut together
LEAST_GAP_STEPS = 2.5
MOST_EMPTY = 10**6  # windows of a stretch that may be nearly all empty
_TOLERANCE = 0.05  # of a rate, relative


def cut_recording(recording: Recording, recipe: Recipe, store: WindowStore, counts: Counts) -> None:
    """Cut one recording and put the windows into the store.

    Args:
        recording: its samples in order of time.
        recipe: lengths and rules.
        store: takes the windows kept.
        counts: grows by what was tried, kept and dropped.

    Raises:
        DataError: a sensor runs at another rate than the recipe says, or a time is far from all others.
    """
    tracks = [_track(recording, sensor, recipe, counts) for sensor in recipe.sensors]
    moving = [t for t in tracks if t is not None and t.sensor.rate_hz > 0]
    labels = None if recipe.target else _label_runs(recording)
    used = {t.sensor.name: 0 for t in moving}  # samples before this one are counted
    whole = recipe.label_rule == "whole"
    window_ns, hop_ns = round(recipe.window_s * 1e9), recipe.hop * 1e9
    slack = min(t.step_ns for t in moving) / 2
    for begin, end, code in _stretches(moving, labels, whole=whole, window_ns=window_ns):
        counts.stretches += 1
        length_ns = end - begin
        n = int((length_ns - window_ns + slack) // hop_ns) + 1 if length_ns + slack >= window_ns else 0
        if n > max(MOST_EMPTY, 100 * sum(len(t.samples) for t in moving)):  # cutting would have no end
            raise DataError(
                f"{recording.title} reaches over {length_ns / 1e9:.3g} s, {n} windows, nearly all empty; a "
                "time in it is wrong, or the unit of its times: mend it"
            )
        if not n:
            counts.short += 1
            counts.short_s += length_ns / 1e9
            continue
        counts.tried += n
        if whole and code < 0 and labels is not None:
            counts.dropped["unlabelled"] += n
            continue
        for part in _parts(n, moving, hop_ns, window_ns):
            starts = begin + np.rint(part * hop_ns).astype(np.int64)
            codes = np.full(len(starts), code, np.int64)
            if not whole and labels is not None:
                codes = _majority(labels, starts, window_ns, recipe.label_share)
            _cut(recording, recipe, tracks, starts, codes, store, counts, used)


def _track(recording: Recording, sensor: Sensor, recipe: Recipe, counts: Counts) -> Track | None:
    samples = recording.sensors.get(sensor.name)
    if samples is None or not len(samples):
        return None
    none: NDArray[np.int64] = np.empty(0, np.int64)
    if sensor.rate_hz == 0:
        return Track(sensor, samples, 1, np.inf, np.inf, none, none)
    step = 1e9 / sensor.rate_hz
    gap = recipe.window_s / 10 if recipe.max_gap_s is None else recipe.max_gap_s
    gap_ns = max(gap * 1e9, LEAST_GAP_STEPS * step)
    starts: list[NDArray[np.int64]] = []
    ends: list[NDArray[np.int64]] = []
    steps: list[NDArray[np.int64]] = []
    last = None
    inside, time_inside = 0, 0
    for _, times in samples.chunks():
        joined = times if last is None else np.concatenate([[last], times])
        if last is None:
            starts.append(times[:1])
        between = np.diff(joined)
        far = between > gap_ns
        starts.append(joined[1:][far])
        ends.append(joined[:-1][far])
        inside += int((~far).sum())
        time_inside += int(between[~far].sum())
        if len(steps) < 8:
            steps.append(between[~far])
        last = times[-1]
    ends.append(np.array([last], np.int64))
    counts.of(sensor.name).gaps += sum(map(len, ends)) - 1
    found = [inside / time_inside * 1e9] if time_inside else []
    found += [1e9 / float(np.median(np.concatenate(steps)))] if inside else []
    wrong = [rate for rate in found if abs(rate / sensor.rate_hz - 1) > _TOLERANCE]
    if inside > 20 and len(wrong) == 2 and not sensor.resample:
        raise DataError(
            f"{sensor.name} of {recording.title} runs at {found[0]:.4g} Hz but the recipe says "
            f"{sensor.rate_hz:g}; "
            f"say rate_hz = {found[0]:.4g}, or resample = true to bring it to {sensor.rate_hz:g} Hz; or the "
            "unit of time is another one"
        )
    length = max(1, round(recipe.window_s * sensor.rate_hz))
    return Track(sensor, samples, length, step, gap_ns, np.concatenate(starts), np.concatenate(ends))


def _label_runs(recording: Recording) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Where labels begin [ns], and their codes; each holds until the next begins."""
    if recording.labels is None:
        if recording.label < 0:
            return None
        return np.array([np.iinfo(np.int64).min]), np.array([recording.label])
    starts, codes = [], []
    last = None
    for low, times in recording.labels.chunks():
        values = recording.labels.values.read(low, low + len(times))[:, 0].astype(np.int64)
        change = np.diff(values, prepend=values[0] + 1 if last is None else last) != 0
        starts.append(times[change])
        codes.append(values[change])
        last = values[-1] if len(values) else last
    if not starts:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return np.concatenate(starts), np.concatenate(codes)


def _stretches(
    tracks: list[Track],
    labels: tuple[NDArray[np.int64], NDArray[np.int64]] | None,
    *,
    whole: bool,
    window_ns: int,
) -> Iterator[tuple[int, int, int]]:
    """Begin, end [ns] and label of every stretch: no common silence, by `whole` no change of label."""
    starts = np.concatenate([t.starts for t in tracks])
    # the last sample of a run holds for a step, though not for longer than a window
    ends = np.concatenate([t.ends + round(min(t.step_ns, window_ns)) for t in tracks])
    order = np.argsort(starts, kind="stable")
    starts, reach = starts[order], np.maximum.accumulate(ends[order])
    fresh = np.flatnonzero(np.append(True, starts[1:] > reach[:-1]))
    lasts = np.append(fresh[1:], len(starts)) - 1
    for begin, end in zip(starts[fresh], reach[lasts], strict=True):
        if labels is None or not whole:
            yield int(begin), int(end), -1
            continue
        changes, codes = labels
        first = int(np.searchsorted(changes, begin, side="right")) - 1
        last = int(np.searchsorted(changes, end)) - 1
        for k in range(first, last + 1):
            low = begin if k < 0 or k == first else changes[k]
            high = changes[k + 1] if k < last else end
            if high > low:
                yield int(low), int(high), int(codes[k]) if k >= 0 else -1


def _parts(n: int, tracks: list[Track], hop_ns: float, window_ns: int) -> Iterator[NDArray[np.int64]]:
    """Numbers of windows that are cut together, so that what they need fits into memory."""
    per_window = sum(t.length * len(t.sensor.columns) for t in tracks)
    per_ns = sum(len(t.sensor.columns) / t.step_ns for t in tracks)
    size = max(1, int(VALUES_AT_ONCE / max(per_window, per_ns * hop_ns)))
    for low in range(0, n, size):
        yield np.arange(low, min(n, low + size))


def _majority(
    labels: tuple[NDArray[np.int64], NDArray[np.int64]],
    starts: NDArray[np.int64],
    window_ns: int,
    share: float,
) -> NDArray[np.int64]:
    """Label of the largest share of each window; -1 where unlabelled, -2 where the share is too small."""
    changes, codes = labels
    result = np.full(len(starts), -1, np.int64)
    for i, begin in enumerate(starts):
        end = begin + window_ns
        first = int(np.searchsorted(changes, begin, side="right")) - 1
        last = int(np.searchsorted(changes, end))
        edges = np.clip(np.append(changes[max(first, 0) : last], end), begin, end)
        if len(edges) < 2:
            continue
        inside = codes[max(first, 0) : last]
        total = np.bincount(inside + 1, weights=np.diff(edges).astype(float))
        total[:1] += edges[0] - begin  # before the first label
        best = int(np.argmax(total))
        result[i] = best - 1 if total[best] >= share * window_ns * (1 - 1e-9) or best == 0 else -2
    return result


def _cut(
    recording: Recording,
    recipe: Recipe,
    tracks: list[Track | None],
    starts: NDArray[np.int64],
    codes: NDArray[np.int64],
    store: WindowStore,
    counts: Counts,
    used: dict[str, int],
) -> None:
    window_ns = round(recipe.window_s * 1e9)
    keep = np.ones(len(starts), bool)
    if store.labelled:
        for code, reason in ((-1, "unlabelled"), (-2, "undecided")):
            counts.dropped[reason] += int((codes == code).sum())
            keep &= codes != code
    whole = np.zeros((len(starts), len(tracks)), bool)  # there throughout
    some = np.zeros_like(whole)  # at least one sample
    spans = {}
    for m, track in enumerate(tracks):
        if track is None or track.sensor.rate_hz == 0:
            continue
        spans[m] = low, high, *_ = bounds(track, starts, window_ns)
        run = np.searchsorted(track.starts, starts + track.gap_ns, side="right") - 1
        reaches = track.ends[np.maximum(run, 0)] >= starts + window_ns - track.gap_ns
        some[:, m] = high > low
        whole[:, m] = (run >= 0) & reaches & some[:, m]
    asked = [m for m, sensor in enumerate(recipe.sensors) if sensor.rate_hz > 0]
    given = some if recipe.gaps == "keep" else whole
    silent = keep & ~given[:, asked].any(axis=1)
    touched = silent & some[:, asked].any(axis=1)
    if recipe.gaps == "drop":
        touched = keep & ~whole[:, asked].all(axis=1)
    counts.dropped["gap"] += int(touched.sum())
    keep &= ~touched
    silent &= keep
    counts.dropped["silent"] += int(silent.sum())
    keep &= ~silent
    for reason in [reason for reason, number in counts.dropped.items() if not number]:
        del counts.dropped[reason]
    chosen = np.flatnonzero(keep)
    if not len(chosen):
        return
    arrays = {}
    for m, track in enumerate(tracks):
        sensor = recipe.sensors[m]
        length = max(1, round(recipe.window_s * sensor.rate_hz)) if sensor.rate_hz else 1
        filled = np.full((len(chosen), length, len(sensor.columns)), np.nan, np.float32)
        if track is not None and sensor.rate_hz == 0:
            filled[:, 0] = latest(track.samples, starts[chosen] + window_ns)
        elif track is not None and given[chosen, m].any():
            fill(
                filled,
                track,
                starts,
                chosen[given[chosen, m]],
                given[chosen, m],
                spans[m],
                window_ns,
                counts,
                used,
            )
        arrays[sensor.name] = filled
    counts.kept += len(chosen)
    store.append(arrays, starts=starts[chosen], codes=codes[chosen], recording=recording)
