"""The page of a study, its figures, the command, and the README's table."""

from __future__ import annotations

import importlib
import json
import re
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from sentryfuse.cli import main
from sentryfuse.study.report import headline_table, read_study, render_study_page, summarize_study
from tests.report.study_lines import METHODS, make_lines, write_lines

ROOT = Path(__file__).resolve().parents[2]
FEW = {
    name: METHODS[name] for name in ("gate/aware", "magnitude/aware", "magnitude/blind", "gate+ridge/aware")
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    write_lines(folder / "lines.jsonl", make_lines(methods=FEW, seeds=(0,), protocols=("present",)))
    (folder / "design.json").write_text(json.dumps({"preset": "small", "versions": {"numpy": "2.0"}}))
    return folder


@pytest.fixture(scope="module")
def summary(study):
    return summarize_study(read_study([study]))


@pytest.fixture(scope="module")
def written(study):
    out = study / "page"
    assert main(["report", str(study), "--out", str(out), "--json", str(study / "s.json"), "--quiet"]) == 0
    return out


def test_the_page_says_what_was_run_and_shows_every_table(summary, written):
    page = (written / "README.md").read_text(encoding="utf-8")
    for text in (
        "144 = 3 backbones",
        "preset: small",
        "versions: numpy 2.0",
        "Table A",
        "Table B",
        "## Where the method loses",
        "## No loss",
        "## What each part is worth",
        "an optimistic bar",
        "seed 0 fold 0/5",
        "AUROC",
    ):
        assert text in page
    headline = summary["comparisons"][0]["regions"][0]
    assert f"{headline['over_best']:+.1f} (" in page
    for item in summary["comparisons"]:
        for row in item["losses"]:
            assert row["baseline"] in page
    assert render_study_page(summary) == render_study_page(json.loads(json.dumps(summary)))


def test_every_row_of_a_table_has_as_many_cells_as_its_head(summary):
    blocks = re.findall(r"(?:^\|.*\n)+", render_study_page(summary), re.MULTILINE)
    assert len(blocks) > 10
    for block in blocks:
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_figures_are_whole_svg_files_that_the_page_shows(written):
    page = (written / "README.md").read_text(encoding="utf-8")
    figures = sorted(written.glob("*.svg"))
    assert {path.name for path in figures} == set(re.findall(r"\]\((.*?\.svg)\)", page))
    assert len(figures) == 3
    for path in figures:
        text = path.read_text(encoding="utf-8")
        ElementTree.fromstring(text)
        assert "<text" in text, "text stays text"
        assert "var(--" not in text, "a file of its own knows no colours of a page"
        assert len(text) < 150_000


def test_the_json_holds_the_numbers_of_the_tables(study, summary, written):
    assert json.loads((study / "s.json").read_text()) == json.loads(json.dumps(summary))


def test_markdown_is_printed(study, capsys):
    assert main(["report", str(study / "lines.jsonl"), "--markdown"]) == 0
    out = capsys.readouterr().out
    assert "## Table B" in out
    assert out.count("| --- |") >= 5
    assert not Path("study-report").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["STUDY", "--out", "page.html"], "markdown"),
        (["STUDY", "--markdown", "--ours", "luck"], "luck"),
        (["STUDY", "W/none.json"], "none.json"),
        (["W/other.json", "--ours", "gate/aware"], "--ours"),
    ],
)
def test_bad_requests_are_answered_in_one_line(study, tmp_path, capsys, words, said):
    (tmp_path / "other.json").write_text("{}")
    words = [word.replace("STUDY", str(study)).replace("W/", f"{tmp_path}/") for word in words]
    assert main(["report", *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_the_readme_takes_its_table_from_the_lines_between_its_markers(study, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    readme = importlib.import_module("readme")
    study_table = readme.TABLES["study"]
    assert study_table(tmp_path) == ""
    write_lines(
        tmp_path / "cells.jsonl.gz", map(json.loads, (study / "lines.jsonl").read_text().splitlines())
    )
    made = study_table(tmp_path)
    assert made + "\n" == headline_table(summarize_study(read_study([tmp_path])))
    text = "# x\n<!-- study -->\nold\n<!-- /study -->\n"
    monkeypatch.setitem(readme.TABLES, "study", lambda: made)
    assert readme.filled(text) == f"# x\n<!-- study -->\n{made}\n<!-- /study -->\n"


@pytest.mark.slow
def test_thirty_thousand_lines_take_less_than_five_seconds(tmp_path):
    more = {f"magnitude-{n}/aware": (f"magnitude-{n}", "aware", "global", "none") for n in range(5)}
    path = write_lines(tmp_path / "lines.jsonl.gz", make_lines(methods={**METHODS, **more}))
    start = time.process_time()
    study = read_study([path])
    summarize_study(study)
    assert len(study.lines) > 30_000
    assert time.process_time() - start < 5
