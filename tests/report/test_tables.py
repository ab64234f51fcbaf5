"""Tables: what is averaged over what, and markdown that stays a table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfuse.errors import InputError
from sentryfuse.report import accuracy_rows, cost_rows, markdown_table, parse_results
from sentryfuse.report.tables import cell, percent
from sentryfuse.types import sensor_label

NAMES = ("a", "b", "c")


def row(present, accuracy, ratio=0.5, **more):
    return {"present": list(present), "ratio": ratio, "accuracy": accuracy, **more}


def test_accuracy_rows_compare_all_sensors_with_one_missing():
    rows = accuracy_rows(
        {
            "rows": [
                row("abc", 0.9, macs=300, params=30),
                row("ab", 0.8),
                row("bc", 0.6),
                row("a", 0.1),  # two missing: no part of it
                row("abc", 0.2, missing_rate=0.5),  # random missing: no part of it
                row("abc", 0.5, scorer="magnitude"),
            ]
        }
    )
    assert rows == [
        {
            "ratio": 0.5,
            "scorer": "gate",
            "protocol": "present",
            "metric": "accuracy",
            "all_sensors": 0.9,
            "one_missing": pytest.approx(0.7),
            "worst": 0.6,
            "worst_missing": "a",
            "n_sets": 2,
            "macs": 300,
            "params": 30,
        },
        {
            "ratio": 0.5,
            "scorer": "magnitude",
            "protocol": "present",
            "metric": "accuracy",
            "all_sensors": 0.5,
            "one_missing": None,
            "worst": None,
            "worst_missing": None,
            "n_sets": 0,
            "macs": None,
            "params": None,
        },
    ]


def test_auroc_is_used_only_when_every_row_has_it():
    both = [row("abc", 0.9, auroc=0.7), row("abc", 0.8, 0.0, auroc=0.6)]
    assert [r["all_sensors"] for r in accuracy_rows({"rows": both})] == [0.6, 0.7]
    mixed = [both[0], {**both[1], "auroc": None}]
    assert [r["all_sensors"] for r in accuracy_rows({"rows": mixed})] == [0.8, 0.9]


def test_sensors_never_all_present_are_known_when_they_are_named():
    rows = [row("ab", 0.8), row("bc", 0.6)]
    assert accuracy_rows({"rows": rows}, NAMES)[0]["one_missing"] == pytest.approx(0.7)
    assert accuracy_rows({"rows": rows}, NAMES)[0]["all_sensors"] is None


shares = st.floats(0, 1).map(lambda x: round(x, 6))


@given(
    st.lists(st.dictionaries(st.sampled_from("abc"), shares, min_size=1), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
)
def test_the_worst_is_never_above_the_mean_and_the_order_of_rows_does_not_matter(seeds, random):
    rows = [
        row([n for n in NAMES if n != missing], value, seed=seed)
        for seed, values in enumerate(seeds)
        for missing, value in values.items()
    ]
    (found,) = accuracy_rows({"rows": rows}, NAMES)
    assert found["worst"] <= found["one_missing"] + 1e-12
    assert found["n_sets"] == len({missing for values in seeds for missing in values})
    random.shuffle(rows)
    (shuffled,) = accuracy_rows({"rows": rows}, NAMES)
    assert shuffled["one_missing"] == pytest.approx(found["one_missing"])
    assert shuffled["worst"] == pytest.approx(found["worst"])


def test_cost_rows_compare_every_engine_with_its_own_dense_model(story):
    results = story()
    slow = [
        {**item, "engine": "other", "latency_ms": {"p95": 10 * item["latency_ms"]["p95"]}}
        for item in results["bench"]
    ]
    results["bench"] += slow
    rows = cost_rows(parse_results(results))
    assert [r["engine"] for r in rows] == ["onnxruntime"] * 5 + ["other"] * 5
    assert rows[8]["speed_up"] == pytest.approx(rows[3]["speed_up"]) == pytest.approx(1 / 0.49)
    assert rows[8]["p95_ms"] == pytest.approx(10 * rows[3]["p95_ms"])
    assert rows[8]["p50_ms"] is None
    assert rows[3]["one_p95_ms"] == pytest.approx(2.25 * 0.49)


def test_without_a_bench_the_counted_costs_remain(story):
    results = story()
    del results["bench"]
    rows = cost_rows(parse_results(results))
    assert [r["mmac"] for r in rows] == [23.0, 18.6, 14.2, 9.8, 5.4]
    assert {r["speed_up"] for r in rows} == {None}
    assert rows[3]["weights_mb"] == 2.344  # from the plan


def test_a_markdown_table_is_aligned_by_what_its_columns_hold():
    table = markdown_table(
        [{"name": "wrist", "x": 0.5, "ratio": 0.6}, {"name": "a|b <i>", "x": None}],
        {"name": "sensor", "ratio": "pruned", "x": "accuracy"},
    )
    assert table == (
        "| sensor | pruned | accuracy |\n"
        "| --- | ---: | ---: |\n"
        "| wrist | 60 % | 0.500 |\n"
        "| a\\|b &lt;i&gt; | \N{EN DASH} | \N{EN DASH} |\n"
    )


@given(st.lists(st.tuples(st.text(), st.text()), max_size=4))
def test_no_text_breaks_out_of_a_markdown_table(texts):
    table = markdown_table([{"a": a, "b": b} for a, b in texts], ("a", "b"))
    lines = table.rstrip("\n").split("\n")
    assert len(lines) == len(texts) + 2
    for line in lines:
        bare = line.replace("\\\\", "").replace("\\|", "")
        assert bare.count("|") == 3


def test_numbers_are_short_and_say_nothing_where_there_is_none():
    values = [None, 1234567, 0.98765, 1.0, 12.345, 1234.5, 0.0004, True, "x"]
    assert [cell(value) for value in values] == [
        "\N{EN DASH}", "1,234,567", "0.988", "1.000", "12.3", "1,234", "0.0004", "yes", "x",
    ]  # fmt: skip
    assert [percent(share) for share in (0, 0.6, 0.125, 0.29)] == ["0 %", "60 %", "12.5 %", "29 %"]


def test_sets_of_sensors_are_said_in_few_words():
    labels = [sensor_label(tuple(present), "abcde") for present in ("abcde", "abde", "ab", "c")]
    assert labels == ["all sensors", "without c", "a, b", "only c"]


def test_a_row_without_accuracy_is_refused():
    with pytest.raises(InputError, match=r"key 'rows\.0\.accuracy' is missing"):
        accuracy_rows({"rows": [{"present": ["a"], "ratio": 0.5}]})
