"""What a person sees while waiting: bars, lines and tables; rich is loaded only when it draws.

Bars and lines go to standard error, so that standard output holds results alone. On a terminal a
bar is drawn; elsewhere it becomes a plain line now and then; after `set_quiet(True)` there is
nothing.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

# One switch for the process, set once by the command line.
_quiet = False
# Bars being drawn, outermost first; lines must be printed above them, not through them.
_bars: list[RichProgress] = []
# Control characters but tab and line end, C1 among them, and what turns the direction of writing.
_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def set_quiet(quiet: bool) -> None:
    """Switch every bar, line and table of this process off or on.

    Args:
        quiet: whether nothing is to be shown.
    """
    global _quiet
    _quiet = quiet


def is_quiet() -> bool:
    """Whether every bar, line and table of this process is off."""
    return _quiet


def visible(text: str) -> str:
    """Text in which nothing steers a terminal: texts from files may hold such.

    Args:
        text: of any origin; tabs and line ends stay.

    Returns:
        The same with control characters, and those that turn the direction of writing, as JSON escapes them.
    """
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def say(text: str) -> None:
    """Show one line on standard error, unless quiet.

    Args:
        text: the line; no markup, and `visible`.
    """
    if _quiet:
        return
    text = visible(text)
    with suppress(OSError):  # what nobody can read must not end the work
        if _bars:
            _bars[-1].console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)


def show(text: str) -> None:
    """Put text on standard output; once nobody reads it any more, nowhere.

    Args:
        text: with its line ends; `visible`.

    Raises:
        OSError: it cannot be written for another reason, such as a full disk.
    """
    _write(visible(text))


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        drop_stdout()


def drop_stdout() -> None:
    """Let everything written to standard output vanish from now on: its reader has gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


class Progress:
    """A bar with free text and the time left, for a loop whose length is known.

        with Progress("train", 12) as bar:
            for epoch in range(12):
                ...
                bar.update(epoch + 1, f"loss {loss:.3f}  accuracy {accuracy:.3f}")

    Where standard error is no terminal, a plain line appears at most every `every_s`, and one at
    the end.
    """

    def __init__(self, description: str, total: int, *, every_s: float = 10.0, even: bool = True) -> None:
        """Prepare; nothing is shown before `with`.

        Args:
            description: what is being done, a word or two.
            total: number of steps, `>= 0`.
            every_s: shortest time between two plain lines [s].
            even: whether steps take equal times; if not, only the time left that `update` is given is shown.
        """
        self.description = description
        self.total = total
        self.every_s = every_s
        self._even = even
        self._bar: RichProgress | None = None
        self._done = 0
        self._text = ""
        self._left_s: float | None = None
        self._started = self._shown_at = time.monotonic()
        self._shown = True  # nothing new to show yet

    def __enter__(self) -> Self:
        """Start the clock and, on a terminal, the bar."""
        self._started = self._shown_at = time.monotonic()
        # rich draws one live bar at a time; an inner one speaks in plain lines above the outer.
        if not _quiet and not _bars and sys.stderr.isatty():
            self._bar = _draw(self.description, self.total)
            _bars.append(self._bar)
        return self

    def update(self, done: int, text: str = "", *, left_s: float | None = None) -> None:
        """Report how far it is.

        Args:
            done: steps finished so far, out of `total`.
            text: free text beside the bar, such as loss and accuracy.
            left_s: time left [s], if the caller knows better than that steps take as long as so far.
        """
        self._done, self._text, self._left_s, self._shown = done, text, left_s, False
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, text=text, left=self._left())
        elif time.monotonic() - self._shown_at >= self.every_s:
            self._show_line()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the bar down, or show the last line if it has not been shown."""
        if self._bar is not None:
            self._bar.stop()
            _bars.remove(self._bar)
            self._bar = None
        elif not self._shown:
            self._show_line()

    def _show_line(self) -> None:
        now = time.monotonic()
        line = f"{self.description} {self._done}/{self.total}"
        if self._text:
            line += f"  {self._text}"
        left = self._left()
        say(f"{line}  {left}" if left else line)
        self._shown_at, self._shown = now, True

    def _left(self) -> str:
        """The time left in the unit one would say it in; nothing before the first step and at the end."""
        if not 0 < self._done < self.total:
            return ""
        seconds = self._left_s
        if seconds is None and self._even:
            seconds = (time.monotonic() - self._started) / self._done * (self.total - self._done)
        if seconds is None:
            return ""
        if seconds < 120:
            return f"about {seconds:.0f} s left"
        return (
            f"about {seconds / 60:.0f} min left" if seconds < 7200 else f"about {seconds / 3600:.1f} h left"
        )


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table to standard output, unless quiet.

    Args:
        title: printed above.
        columns: headings, with units.
        rows: one sequence of cells per row, as many as columns; numbers are set to the right,
            floats with three decimals, `None` as a dash.

    Raises:
        ValueError: a row has more or fewer cells than there are columns.
    """
    cells = [list(row) for row in rows]
    for row in cells:
        if len(row) != len(columns):
            raise ValueError(
                f"a row of {title!r} has {len(row)} cells for {len(columns)} columns; give one each"
            )
    if _quiet or sys.stdout is None:  # closed by whoever started this
        return
    from rich.console import Console
    from rich.table import Table

    drawn = Table(title=visible(title), title_justify="left")
    for index, heading in enumerate(columns):
        numeric = bool(cells) and all(
            row[index] is None or isinstance(row[index], int | float) for row in cells
        )
        drawn.add_column(visible(heading), justify="right" if numeric else "left")
    for row in cells:
        drawn.add_row(*map(_cell, row))
    # In a file or pipe there is no edge to wrap at.
    width = None if sys.stdout.isatty() else 200
    console = Console(markup=False, emoji=False, highlight=False, width=width)
    with console.capture() as shown:  # rich would end the process when nobody reads any more
        console.print(drawn)
    _write(shown.get())


def _cell(value: object) -> str:
    """A table cell as text."""
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else visible(str(value))


def _draw(description: str, total: int) -> RichProgress:
    """Start a bar on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as RichProgress

    bar = RichProgress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[text]}", markup=False),
        TextColumn("{task.fields[left]}"),
        console=Console(stderr=True),
        redirect_stdout=False,
        redirect_stderr=False,
    )
    bar.add_task(description, total=total, text="", left="")
    bar.start()
    return bar
