"""Result lines of `sentryfuse study` come in; tables, figures and a page in markdown go out.

One file per step, in this order: `lines` reads, `cells` puts in order, `comparison` says who is
compared with whom, `answers` and `bootstrap` how sure that is, `summary` counts, `tables`, `figures`
and `page` show. Nothing is typed: the same lines give the same bytes.
"""

from __future__ import annotations

from sentryfuse.study.lines import Line
from sentryfuse.study.report.lines import Study, is_study, read_study
from sentryfuse.study.report.page import page_of, render_study_page, write_study_page
from sentryfuse.study.report.summary import summarize_study
from sentryfuse.study.report.tables import all_tables, headline_table

__all__ = [
    "Line",
    "Study",
    "all_tables",
    "headline_table",
    "is_study",
    "page_of",
    "read_study",
    "render_study_page",
    "summarize_study",
    "write_study_page",
]
