"""The sentence at the top: true for every kind of result."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfuse.report.results import parse_results
from sentryfuse.report.summary import chance_level, headline, tiles


def results(accuracies, *, latency=None, macs=None, **more):
    rows = [
        {"present": ["a", "b"], "ratio": ratio, "accuracy": value, "macs": (macs or {}).get(ratio)}
        for ratio, value in accuracies.items()
    ]
    bench = [
        {"present": ["a", "b"], "ratio": ratio, "latency_ms": {"p50": ms / 2, "p95": ms}}
        for ratio, ms in (latency or {}).items()
    ]
    return parse_results({"evaluation": {"rows": rows}, "bench": bench, **more})


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (
            results({0.0: 0.9, 0.4: 0.9, 0.6: 0.89, 0.8: 0.7}, latency={0.0: 2.4, 0.6: 1.0}),
            "At 60 % pruning the model keeps 0.89 of 0.90 accuracy and answers 2.4 times as fast "
            "(p95 1.00 ms instead of 2.40 ms).",
        ),
        (
            results({0.0: 0.9, 0.6: 0.9}, macs={0.0: 100, 0.6: 43}),
            "At 60 % pruning the model keeps its 0.90 accuracy and needs 43 % of the multiply-accumulates.",
        ),
        (
            results({0.0: 0.9, 0.8: 0.93}),
            "At 80 % pruning the model reaches 0.93 accuracy, against 0.90 unpruned.",
        ),
        (
            results({0.0: 0.9, 0.4: 0.7, 0.8: 0.2}, latency={0.0: 1.0, 0.4: 0.5}),
            "Pruning costs accuracy here: at 40 % pruning it falls from 0.90 to 0.70, at 80 % it is "
            "0.20; at 40 % pruning the model answers 2.0 times as fast (p95 0.50 ms instead of "
            "1.00 ms).",
        ),
        (
            results({0.0: 0.9, 0.6: 0.89}, latency={0.0: 1.0, 0.6: 1.02}),
            "At 60 % pruning the model keeps 0.89 of 0.90 accuracy and answers in about the same "
            "time (p95 1.02 ms instead of 1.00 ms).",
        ),
        (
            results({0.0: 0.9, 0.6: 0.89}, latency={0.0: 1.0, 0.6: 1.5}),
            "At 60 % pruning the model keeps 0.89 of 0.90 accuracy and needs 1.5 times as long "
            "(p95 1.50 ms instead of 1.00 ms).",
        ),
        (
            results({0.6: 0.89}),
            "At 60 % pruning the model reaches 0.89 accuracy with all sensors; the unpruned model "
            "was not evaluated.",
        ),
        (results({0.0: 0.9}), "Without pruning, the model reaches 0.90 accuracy with all sensors."),
    ],
)
def test_the_headline_says_what_the_numbers_say(found, sentence):
    assert headline(found) == [sentence]


def test_an_answer_no_better_than_guessing_is_called_so():
    found = results({0.0: 0.34, 0.6: 0.33}, data={"classes": ["x", "y", "z"]})
    assert headline(found)[-1] == "That is no better than guessing (chance: 0.33)."


def test_chance_is_the_commonest_class_where_counts_are_known():
    uneven = results({0.0: 0.5}, data={"classes": {"well": 80, "ill": 20}}).data
    assert chance_level("accuracy", uneven) == (0.8, "always the commonest class")
    assert chance_level("auroc", uneven) == (0.5, "chance")
    assert chance_level("accuracy", None) is None


def test_sets_without_all_sensors_alone_are_no_headline():
    rows = [{"present": ["a"], "ratio": 0.5, "accuracy": 0.9}]
    names = [{"name": "a"}, {"name": "b"}]
    found = parse_results({"evaluation": {"rows": rows}, "data": {"modalities": names}})
    assert headline(found) == ["No combination with all 2 sensors was evaluated."]
    assert tiles(found) == []


@given(
    st.dictionaries(st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.8]), st.floats(0, 1), min_size=1),
    st.dictionaries(st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.8]), st.floats(0.001, 1e4)),
)
def test_the_headline_never_calls_a_loss_kept_and_quotes_only_given_numbers(accuracies, latency):
    (sentence,) = headline(results(accuracies, latency=latency))
    given_numbers = {f"{value:.2f}" for value in (*accuracies.values(), *latency.values())}
    assert set(re.findall(r"\d+\.\d\d", sentence)) <= given_numbers
    if " keeps " in sentence:
        ratio = float(re.findall(r"At (\d+) %", sentence)[0]) / 100
        assert accuracies[ratio] >= accuracies[0.0] - 0.02 - 1e-6
    if "Pruning costs" in sentence:
        assert all(v < accuracies[0.0] - 0.02 for r, v in accuracies.items() if r > 0)
