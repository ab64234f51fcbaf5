"""One sensor of a recording: where it is silent, and its samples put on the steps of windows.

Samples stay as they are: each is put on the step of its window that is nearest to its time, in order; steps
without one are NaN.

Notation: G windows cut together · T steps · C channels · n samples of one sensor inside one window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sentryfuse.recordings.counts import Counts
from sentryfuse.recordings.recipe import Sensor
from sentryfuse.recordings.samples import Samples


@dataclass(frozen=True)
class Track:
    """One sensor of a recording and where it is silent.

    Attributes:
        sensor: of the recipe.
        samples: in order of time.
        length: steps of a window, `T`.
        step_ns: between two steps [ns].
        gap_ns: a longer silence is a gap [ns].
        starts: first times of its runs between gaps [ns], ascending.
        ends: last times of them [ns].
    """

    sensor: Sensor
    samples: Samples
    length: int
    step_ns: float
    gap_ns: float
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


def latest(samples: Samples, ends: NDArray[np.int64]) -> NDArray[np.float32]:
    """The last value before each moment [ns], the first one where there is none yet, `(G, C)`."""
    first = max(0, samples.find(int(ends[0])) - 1)
    last = max(samples.find(int(ends[-1])), first + 1)
    times = samples.times.read(first, last)
    values: NDArray[np.float32] = samples.values.read(first, last)
    return values[np.maximum(np.searchsorted(times, ends) - 1, 0)]


def bounds(
    track: Track, starts: NDArray[np.int64], window_ns: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int64], int]:
    """First and one past the last sample of each window in `times`, which begin at sample `first`.

    A step reaches half a step to both sides, so a window reaches half a step before its start.
    """
    half = track.step_ns / 2
    lows = np.ceil(starts - half).astype(np.int64)
    highs = np.ceil(starts + window_ns - half).astype(np.int64)
    first = max(0, track.samples.find(int(lows[0])) - 1)  # one more to both sides, to interpolate
    last = min(len(track.samples), track.samples.find(int(highs[-1])) + 1)
    times = track.samples.times.read(first, last)
    return np.searchsorted(times, lows), np.searchsorted(times, highs), times, first


def fill(
    filled: NDArray[np.float32],
    track: Track,
    starts: NDArray[np.int64],
    chosen: NDArray[np.intp],
    rows: NDArray[np.bool_],
    bounds: tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int64], int],
    window_ns: int,
    counts: Counts,
    used: dict[str, int],
) -> None:
    """Put the samples of one sensor into the windows in which it is."""
    lows, highs, times, first = bounds
    low, high = lows[chosen], highs[chosen]
    values = track.samples.values.read(first, first + len(times))
    mine = counts.of(track.sensor.name)
    length = track.length
    window_steps = window_ns / track.step_ns
    targets = np.flatnonzero(rows)
    if track.sensor.resample:
        for i, window in enumerate(chosen.tolist()):
            filled[targets[i]] = _interpolated(
                track, times, values, int(starts[window]), int(low[i]), int(high[i])
            )
        last = high
    else:
        last = np.minimum(high, low + length)
        # where a window is no whole number of steps, every other one holds a sample more than it has steps
        spare = 0 if abs(window_steps - length) < 1e-6 else 1
        mine.crowded += int(np.maximum(0, high - last - spare).sum())
        exact = last - low == length
        filled[targets[exact]] = values[low[exact][:, None] + np.arange(length)]
        for i in map(int, np.flatnonzero(~exact)):
            steps = _steps(times[low[i] : last[i]], int(starts[chosen[i]]), track.step_ns, length)
            filled[targets[i], steps] = values[low[i] : last[i]]
    mine.empty_steps += int(np.isnan(filled[targets]).all(axis=2).sum())
    # windows are in order, so what lies before the furthest sample so far has been counted
    reached = np.maximum.accumulate(np.append(used[track.sensor.name], first + last))
    mine.used += int(np.maximum(0, first + last - np.maximum(first + low, reached[:-1])).sum())
    used[track.sensor.name] = int(reached[-1])


def _steps(times: NDArray[np.int64], start: int, step_ns: float, length: int) -> NDArray[np.intp]:
    """The step of each of n <= T samples: nearest to its time, each later than the one before."""
    n = len(times)
    d = (times - start) / step_ns
    phase = np.angle(np.exp(2j * np.pi * d).mean()) / (2 * np.pi)  # of the sensor's clock against the window
    order = np.arange(n)
    late = np.maximum.accumulate(np.rint(d - phase).astype(np.intp) - order)
    steps: NDArray[np.intp] = order + np.clip(late, 0, length - n)
    return steps


def _interpolated(
    track: Track, times: NDArray[np.int64], values: NDArray[np.float32], start: int, low: int, high: int
) -> NDArray[np.float32]:
    """Values at even times, linearly between samples, one beyond each end too; never over a gap."""
    low, high = max(0, low - 1), min(len(times), high + 1)
    at = (times[low:high] - start) / track.step_ns
    inside = np.flatnonzero((at >= -0.5) & (at < track.length - 0.5))
    limit = track.gap_ns / track.step_ns
    begin, end = int(inside[0]), int(inside[-1]) + 1
    if begin and at[begin] - at[begin - 1] <= limit:
        begin -= 1
    if end < len(at) and at[end] - at[end - 1] <= limit:
        end += 1
    at, parts = at[begin:end], values[low + begin : low + end]
    result = np.full((track.length, parts.shape[1]), np.nan, np.float32)
    grid = np.arange(track.length)
    for c in range(parts.shape[1]):
        known = ~np.isnan(parts[:, c])
        if known.any():
            result[:, c] = np.interp(grid, at[known], parts[known, c])
    # under the rule `keep`, what lies in a gap stays unknown
    nearest = np.searchsorted(at, grid)
    left = grid - at[np.maximum(nearest - 1, 0)]
    right = at[np.minimum(nearest, len(at) - 1)] - grid
    far = np.where(
        nearest == 0, right > limit, np.where(nearest == len(at), left > limit, left + right > limit)
    )
    result[far] = np.nan
    return result
