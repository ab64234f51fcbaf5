"""Numbers asked for in place of classes: a sensor whose mean over a window is the answer."""

from __future__ import annotations

import numpy as np
import pytest

import sentryfuse as sf
from sentryfuse.errors import ConfigError, DataError
from sentryfuse.recordings import make_file, make_recipe
from tests.cli.conftest import Done

N = 400


def write(folder, n_people=5):
    """A pulse belt of 1 Hz beside a wrist sensor of 10 Hz; the belt is off for a while."""
    rng = np.random.default_rng(0)
    for person in range(n_people):
        t = np.arange(N) / 10
        pulse = 70 + 10 * np.sin(t / 5 + person)
        rows = [
            f"{t[i]:.1f},{pulse[i] / 10 + 0.1 * rng.normal():.4f},"
            + (f"{pulse[i]:.3f}" if i % 10 == 0 and not 100 <= i < 150 else "")
            for i in range(N)
        ]
        (folder / f"p{person}.csv").write_text("\n".join(["t,w,bpm", *rows]) + "\n", "utf-8")
    return folder


def recipe_of(folder, **more):
    sensors = [
        {"name": "wrist", "columns": ["w"], "rate_hz": 10.0},
        {"name": "belt", "columns": ["bpm"], "rate_hz": 1.0},
    ]
    entry = {
        "files": ["*.csv"], "pattern": r"(?P<subject>p\d+)", "time": "t", "unit": "s", "sensor": sensors,
    }  # fmt: skip
    rules = {"folder": str(folder), "window_s": 2.0, "target": "belt", "unit": "bpm"}
    return make_recipe({**rules, "table": [entry], **more}, "test")


def test_the_target_is_told_and_is_no_input(tmp_path):
    made = make_file(recipe_of(write(tmp_path)), tmp_path / "m.npz")
    windows = sf.load_windows(tmp_path / "m.npz")
    assert (windows.target.task, windows.target.unit, windows.classes) == ("regression", "bpm", ("belt",))
    assert windows.names == ("wrist",)
    # the mean of the wrist follows a tenth of the pulse
    wrist = windows.batch(windows.indices("all"))["wrist"].mean(axis=(1, 2))
    assert np.corrcoef(wrist, windows.y[:, 0])[0, 1] > 0.97
    assert np.abs(10 * wrist - windows.y[:, 0]).mean() < 2
    plain = made.plain()
    assert plain["windows_dropped"]["untold"] == 5 * 2  # wholly inside the time the belt was off
    assert plain["windows_tried"] == plain["n_windows"] + sum(plain["windows_dropped"].values())


def test_frames_and_windows_give_numbers_as_well():
    pandas = pytest.importorskip("pandas")
    frames = []
    rng = np.random.default_rng(0)
    for person in range(4):
        t = np.arange(N) / 10
        level = np.sin(t / 5 + person)
        columns = {"time_s": t, "w": level + 0.1 * rng.normal(size=N), "force": 5 * level}
        frames.append(pandas.DataFrame({**columns, "subject": person}))
    windows = sf.make_windows(
        pandas.concat(frames), window_s=1.0, time="time_s", subject="subject",
        sensors={"wrist": ["w"], "plate": ["force"]}, rate_hz=10.0, target="plate", target_unit="N",
    )  # fmt: skip
    assert windows.names == ("wrist",)
    assert windows.target.unit == "N"
    x = rng.normal(size=(60, 20, 2))
    own = sf.make_windows(
        {"acc": x}, rate_hz=20.0, label=x.mean(axis=(1, 2)), subject=np.arange(60) % 6, task="regression"
    )
    assert own.y[:, 0] == pytest.approx(x.mean(axis=(1, 2)), abs=1e-6)
    both = sf.make_windows(
        {"acc": x}, rate_hz=20.0, label=x[:, 0] > 0, subject=np.arange(60) % 6, task="multilabel"
    )
    assert both.y.shape == (60, 2)
    assert both.target.task == "multilabel"


@pytest.mark.parametrize("target", ["pulse", "wrist2"])
def test_a_target_that_is_no_sensor_of_one_column_is_refused(tmp_path, target):
    with pytest.raises(DataError, match="must be a sensor of one column"):
        recipe_of(write(tmp_path), target=target)


def test_what_does_not_go_together_is_refused():
    x = np.zeros((10, 5, 1))
    with pytest.raises(ConfigError, match="target is for recordings"):
        sf.make_windows({"a": x}, rate_hz=1.0, label=np.zeros(10), target="a")
    with pytest.raises(ConfigError, match="cut already"):
        sf.make_windows({"a": np.zeros(50)}, window_s=1.0, rate_hz=5.0, task="regression")


def test_the_command_takes_a_target(tmp_path, monkeypatch, capsys):
    from sentryfuse.cli import main

    write(tmp_path)
    found: list[Done] = []

    def run(*words):
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        found.append(Done(code, captured.out, captured.err))
        return found[-1]

    monkeypatch.chdir(tmp_path)
    assert run("data", "guess", *sorted(tmp_path.glob("*.csv")), "--out", "r.toml").code == 0
    done = run(
        "data", "make", "r.toml", "--out", "m.npz", "--window-s", 2, "--target", "bpm",
        "--target-unit", "bpm", "--json", "-",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.json["task"] == "regression"
    shown = run("data", "describe", "m.npz")
    assert "1 number;" in shown.out
    assert "bpm in train:" in shown.out
