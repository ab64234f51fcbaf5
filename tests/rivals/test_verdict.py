from __future__ import annotations

import pytest

from sentryfuse.data.metrics import measure_of
from sentryfuse.rivals.verdict import gaps_of, verdict_of

pytestmark = pytest.mark.device


def row(system, presence, accuracy, *, ratio=None, auroc=None):
    return {"system": system, "presence": presence, "ratio": ratio, "accuracy": accuracy, "auroc": auroc}


def rows(ours, forest, lda, presence="all", small=0.1):
    return [
        row("ours", presence, ours, ratio=0.0),
        row("ours", presence, small, ratio=0.8),
        row("random forest", presence, forest),
        row("LDA", presence, lda),
    ]


def test_ours_is_above_the_best_rival_of_each_kind():
    both = rows(0.912, 0.9, 0.88) + rows(0.86, 0.82, 0.826, "one missing")
    assert verdict_of(both) == (
        "by accuracy, ours at r = 0 is 1.2 points above the best rival (random forest) with all sensors, and "
        "ours is 3.4 points above the best rival (LDA) with one missing"
    )


def test_losing_is_said_and_names_who_wins():
    both = rows(0.88, 0.9, 0.7) + rows(0.86, 0.82, 0.85, "one missing")
    assert verdict_of(both) == (
        "by accuracy, random forest is 2.0 points better than ours at r = 0 with all sensors, and "
        "ours is 1.0 points above the best rival (LDA) with one missing"
    )


@pytest.mark.parametrize(
    ("ours", "said"),
    [
        (0.9, "ours at r = 0 is level with the best rival (random forest, +0.0 points)"),
        (0.8961, "ours at r = 0 is level with the best rival (random forest, -0.4 points)"),
        (0.904, "ours at r = 0 is level with the best rival (random forest, +0.4 points)"),
        (0.895, "random forest is 0.5 points better than ours at r = 0"),
        (0.905, "ours at r = 0 is 0.5 points above the best rival (random forest)"),
    ],
)
def test_small_differences_are_level_and_still_told(ours, said):
    assert verdict_of(rows(ours, 0.9, 0.9)) == f"by accuracy, {said} with all sensors"


def test_a_smaller_network_that_happens_to_be_better_is_not_picked():
    (gap,) = gaps_of(rows(0.8, 0.9, 0.7, small=0.95))
    assert gap.points == -10


def test_without_ratio_zero_the_smallest_one_speaks():
    given = [r for r in rows(0.8, 0.9, 0.7, small=0.95) if r["ratio"] != 0]
    assert verdict_of(given).startswith("by accuracy, ours at r = 0.8 is 5.0 points above")


def test_two_classes_are_judged_by_auroc():
    given = [
        row("ours", "all", 0.9, ratio=0.0, auroc=0.8),
        row("LDA", "all", 0.5, auroc=0.83),
    ]
    assert measure_of(given) == "auroc"
    assert verdict_of(given) == "by AUROC, LDA is 3.0 points better than ours at r = 0 with all sensors"
    assert measure_of([*given, row("LDA", "one missing", 0.5)]) == "accuracy"
