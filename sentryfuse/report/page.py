"""The one HTML file: numbers, tables and figures in a page that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from sentryfuse.errors import ConfigError
from sentryfuse.files import write_text
from sentryfuse.report.curves import pruning_figure, time_figure, training_figure
from sentryfuse.report.figures import MISSING
from sentryfuse.report.kept import kept_figures
from sentryfuse.report.results import DataInfo, Results, SplitInfo, parse_results
from sentryfuse.report.summary import (
    KEPT_WITHIN,
    METRICS,
    choose,
    headline,
    replay_sentence,
    tiles,
)
from sentryfuse.report.tables import (
    accuracy_table,
    cell,
    cost_rows,
    format_value,
    main_protocol,
    metric_of,
    random_missing_rows,
)
from sentryfuse.report.timeline import replay_figure


class Table(NamedTuple):
    """Texts ready to be shown.

    Attributes:
        headings: one per column.
        rows: one text per column.
        numeric: which columns are right-aligned; never the first.
    """

    headings: list[str]
    rows: list[list[str]]
    numeric: list[bool]


def write_report(results: Mapping[str, Any], path: str | Path) -> None:
    """Write the page; the same results give the same bytes.

    Args:
        results: what `results.json` holds; only `evaluation` is required, other sections are
            left out of the page when they are missing.
        path: the file to write; replaced in one step, so that no half page is ever seen.

    Raises:
        InputError: a key is missing or has a wrong type; the message names it.
        ConfigError: matplotlib or jinja2 is not installed.
    """
    write_text(Path(path), render_report(results))


def render_report(results: Mapping[str, Any]) -> str:
    """The page as text; see `write_report`.

    Args:
        results: what `results.json` holds.

    Returns:
        The HTML.

    Raises:
        InputError: a key is missing or has a wrong type; the message names it.
        ConfigError: matplotlib or jinja2 is not installed.
    """
    checked = parse_results(results)
    try:
        import jinja2
        from markupsafe import Markup
    except ImportError as error:
        raise ConfigError(MISSING) from error
    source = resources.files("sentryfuse.report").joinpath("page.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )

    def markup(svg: str | None) -> Markup | None:
        return None if svg is None else Markup(svg)

    evaluation, made = checked.evaluation, checked.made
    choice = choose(checked)
    return environment.from_string(source).render(
        title=checked.title or f"sentryfuse: {evaluation.dataset or 'results'}",
        subtitle=_subtitle(checked),
        headline=headline(checked),
        rule=(
            "Chosen by rule: the largest pruning ratio evaluated that loses at most "
            f"{KEPT_WITHIN:.2f} against the unpruned model."
            if choice.kept
            else None
        ),
        tiles=tiles(checked),
        pruning=markup(pruning_figure(checked)),
        accuracy=_accuracy_table(checked),
        protocol=main_protocol(evaluation),
        random_missing=_plain_table(random_missing_rows(checked)),
        time=markup(time_figure(checked)),
        cost=_cost_table(checked),
        replay=markup(replay_figure(checked)),
        replay_sentence=replay_sentence(checked) if checked.replay else "",
        kept=[(markup(figure.svg), figure.title) for figure in kept_figures(checked)],
        training=markup(training_figure(checked.training)),
        modalities=_modality_table(checked.data),
        data=_data_facts(checked.data),
        model=[
            (_words(key), str(value) if key == "seed" else _text(value))
            for key, value in (checked.model or {}).items()
            if value is not None
        ],
        made=made,
        made_facts=_made_facts(checked),
        seconds=[(stage, f"{cell(float(s))} s") for stage, s in made.seconds.items()] if made else [],
        versions=sorted(made.versions.items()) if made else [],
    )


def _subtitle(results: Results) -> list[str]:
    """Where the numbers come from, in a line."""
    about = results.evaluation
    seeds = about.seed if isinstance(about.seed, list) else [about.seed]
    windows = {row.n_windows for row in about.rows if row.n_windows and row.missing_rate is None}
    found = [
        about.dataset,
        about.backbone,
        f"split {about.split}" if about.split else None,
        f"{max(windows):,} windows" if windows else None,
        f"mean of {len(seeds)} seeds" if len(seeds) > 1 else None,
        f"seed {seeds[0]}" if len(seeds) == 1 and seeds[0] is not None else None,
        (results.made.date or "")[:10] if results.made else None,
    ]
    return [part for part in found if part]


def _table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> Table | None:
    """Columns that hold at least one value, formatted."""
    used = [key for key in columns if any(row.get(key) is not None for row in rows)]
    if not used:
        return None
    return Table(
        [columns[key] for key in used],
        [[format_value(key, row.get(key)) for key in used] for row in rows],
        [
            key != used[0] and all(isinstance(row.get(key), int | float | None) for row in rows)
            for key in used
        ],
    )


def _plain_table(rows: Sequence[Mapping[str, Any]]) -> Table | None:
    keys = dict.fromkeys(key for row in rows for key in row)
    return _table(rows, {key: "pruned" if key == "ratio" else key for key in keys})


def _accuracy_table(results: Results) -> Table | None:
    rows = accuracy_table(results.evaluation, results.names)
    columns = {"ratio": "pruned"}
    if len({row["scorer"] for row in rows}) > 1:
        columns["scorer"] = "scorer"
    if len({row["protocol"] for row in rows}) > 1:
        columns["protocol"] = "protocol"
    name = METRICS[metric_of(results.evaluation)]
    columns |= {
        "all_sensors": f"{name}, all sensors",
        "one_missing": "one missing, mean",
        "worst": "one missing, worst",
        "worst_missing": "worst without",
    }
    rows.sort(key=lambda row: row["ratio"])
    return _table(rows, columns)


def _cost_table(results: Results) -> Table | None:
    rows = cost_rows(results)
    columns: dict[str, str] = {"ratio": "pruned"}
    if len({(row["engine"], row["threads"]) for row in rows}) > 1:
        columns |= {"engine": "engine", "threads": "threads"}
    columns |= {
        "mmac": "MMAC",
        "params": "parameters",
        "weights_mb": "weights [MB]",
        "p50_ms": "p50 [ms]",
        "p95_ms": "p95 [ms]",
        "speed_up": "faster than dense",
        "one_p50_ms": "one missing, p50 [ms]",
        "one_p95_ms": "one missing, p95 [ms]",
        "warm_ms": "switch, warm [ms]",
        "cold_ms": "switch, cold [ms]",
    }
    table = _table(rows, columns)
    return table if table is not None and len(table.headings) > 1 else None


def _modality_table(data: DataInfo | None) -> Table | None:
    rows = []
    for item in data.modalities if data else ():
        many = isinstance(item.channels, list)
        rows.append(
            {
                "name": item.name,
                "rate": f"{item.rate_hz:g}" if item.rate_hz else "static" if item.rate_hz == 0 else None,
                "length": item.length,
                "channels": len(item.channels) if isinstance(item.channels, list) else item.channels,
                "names": ", ".join(item.channels) if many and isinstance(item.channels, list) else None,
            }
        )
    return _table(
        rows,
        {
            "name": "sensor",
            "rate": "rate [Hz]",
            "length": "steps",
            "channels": "channels",
            "names": "channel names",
        },
    )


def _data_facts(data: DataInfo | None) -> list[tuple[str, str]]:
    if data is None:
        return []
    facts = {
        "data": data.name,
        "windows": data.n_windows,
        "classes": _classes(data.classes),
        "subjects": data.n_subjects,
        **{f"split {word}": _split(split) for word, split in (data.splits or {}).items()},
        "licence": data.licence,
    }
    return [(key, _text(value)) for key, value in facts.items() if value not in (None, [], {}, "")]


def _classes(classes: list[str] | dict[str, int] | int | None) -> str | None:
    """Names with their windows, once for all where all classes have equally many."""
    if isinstance(classes, dict) and len(set(classes.values())) == 1:
        each = _plural(next(iter(classes.values())), "window")
        return f"{len(classes)} with {each} each: {', '.join(classes)}"
    return None if classes is None else _text(classes)


def _split(split: SplitInfo) -> str:
    people = "" if split.n_subjects is None else f", {_plural(split.n_subjects, 'subject')}"
    return _plural(split.n_windows, "window") + people


def _plural(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _made_facts(results: Results) -> list[tuple[str, str]]:
    made = results.made
    if made is None:
        return []
    facts = {
        "command": made.command,
        "date": made.date,
        "machine": made.machine,
        "sentryfuse": made.sentryfuse,
        "engine": ", ".join(
            dict.fromkeys(
                row.engine + ("" if row.threads is None else f", threads: {row.threads}")
                for row in results.bench
            )
        ),
    }
    return [(key, value) for key, value in facts.items() if value]


def _words(key: str) -> str:
    return {"params": "parameters", "macs": "MAC per window"}.get(key, key.replace("_", " "))


def _text(value: object) -> str:
    """Any plain value in words: lists with commas, dictionaries as "name: value"."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_text(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    return cell(value)
