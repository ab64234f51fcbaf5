"""Result files come in; one self-contained HTML page and markdown tables go out.

Nothing is measured here: every number on the page is read from the results or computed from them by
a rule that the page states. The page needs `pip install 'sentryfuse[report]'`; the tables do not.
"""

from __future__ import annotations

from sentryfuse.report.merge import merge_results
from sentryfuse.report.page import render_report, write_report
from sentryfuse.report.results import Results, parse_results
from sentryfuse.report.tables import accuracy_rows, cost_rows, markdown_table

__all__ = [
    "Results",
    "accuracy_rows",
    "cost_rows",
    "markdown_table",
    "merge_results",
    "parse_results",
    "render_report",
    "write_report",
]
