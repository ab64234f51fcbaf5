from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from sentryfuse import progress
from sentryfuse.progress import Progress, say, set_quiet, table

pytestmark = pytest.mark.device

ROOT = Path(__file__).resolve().parents[1]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def loud_again():
    yield
    set_quiet(False)


def count_to(total: int, *, every_s: float) -> None:
    with Progress("count", total, every_s=every_s) as bar:
        for done in range(1, total + 1):
            bar.update(done, f"loss {1 / done:.2f}")


def test_lines_go_to_standard_error_as_they_are(capsys):
    say("[bold] :smile: 50 %")
    assert capsys.readouterr() == ("", "[bold] :smile: 50 %\n")


def test_away_from_a_terminal_a_short_loop_shows_one_line_at_its_end(capsys):
    count_to(50, every_s=1000)
    assert capsys.readouterr() == ("", "count 50/50  loss 0.02\n")


def test_away_from_a_terminal_each_due_line_tells_the_time_left(capsys):
    count_to(3, every_s=0)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "count 1/3  loss 1.00  about 0 s left",
        "count 2/3  loss 0.50  about 0 s left",
        "count 3/3  loss 0.33",
    ]


def test_a_loop_that_breaks_off_tells_how_far_it_came(capsys):
    def break_off() -> None:
        with Progress("count", 10) as bar:
            bar.update(4)
            raise KeyError("stopped")

    with pytest.raises(KeyError):
        break_off()
    assert capsys.readouterr().err.startswith("count 4/10")


def test_a_loop_without_steps_shows_nothing(capsys):
    with Progress("count", 0):
        pass
    assert capsys.readouterr() == ("", "")


def test_quiet_silences_bars_lines_and_tables(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    set_quiet(True)
    say("line")
    count_to(3, every_s=0)
    table("title", ["a"], [[1]])
    assert terminal.getvalue() == ""
    assert capsys.readouterr().out == ""


def test_on_a_terminal_a_bar_is_drawn_with_its_text_and_lines_stay_whole(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with Progress("train", 2) as bar:
        bar.update(1, "loss [0.5]")
        say("saved [acc]")
        with Progress("inner", 1) as inner:
            inner.update(1)
    shown = terminal.getvalue()
    assert "train" in shown
    assert "1/2" in shown
    assert "loss [0.5]" in shown
    assert "saved [acc]\n" in shown
    assert "inner 1/1" in shown
    assert progress._bars == []


def test_a_table_goes_to_standard_output_and_is_not_cut_there(capsys):
    long = "accelerometer, " * 8
    table("cells [MAC]", ["present", "ratio", "p95 [ms]"], [[long, 0.6, None], ["[acc]", 0, 1.5]])
    out, err = capsys.readouterr()
    assert err == ""
    assert "cells [MAC]" in out
    assert "p95 [ms]" in out
    assert "[acc]" in out
    line = next(line for line in out.splitlines() if "accelerometer" in line)
    assert line.count("accelerometer") == 8
    assert "0.600" in line
    assert "-" in line


def test_a_row_that_does_not_fit_its_columns_is_refused(capsys):
    with pytest.raises(ValueError, match="2 cells for 1 columns"):
        table("title", ["a"], [[1], [1, 2]])
    assert capsys.readouterr().out == ""


def test_rich_waits_until_something_is_drawn():
    code = (
        "import sys; from sentryfuse.progress import Progress, say\n"
        "say('line')\n"
        "with Progress('count', 1) as bar: bar.update(1)\n"
        "sys.exit('rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "line\ncount 1/1\n"
