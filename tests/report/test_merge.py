"""Single result files become one results dictionary, or a clear refusal."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sentryfuse.errors import ConfigError, InputError
from sentryfuse.report import accuracy_rows, merge_results, parse_results, render_report


@pytest.fixture
def save(tmp_path):
    def to_file(name, content):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return to_file


def evaluation(seed=0, accuracy=0.8, **more):
    rows = [{"present": ["a", "b"], "ratio": 0.5, "accuracy": accuracy}]
    return {
        "dataset": "set",
        "backbone": "maestro",
        "split": "test",
        "seed": seed,
        "rows": rows,
        **more,
    }


def test_files_of_every_kind_come_together(story, save):
    whole = story()
    paths = [
        save("evaluate.json", whole["evaluation"]),
        save("bench.json", {"rows": whole["bench"]}),
        save("plan.json", whole["plans"][0]),
        save("plans.json", {"rows": whole["plans"][1:]}),
        save("layout.json", whole["layout"]),
        save("data.json", whole["data"]),
        save("trace.jsonl", "\n".join(json.dumps(row) for row in whole["replay"])),
        save("rest.json", {key: whole[key] for key in ("title", "made", "model", "training")}),
    ]
    merged = merge_results(paths)
    assert set(merged) == set(whole)
    for row in whole["evaluation"]["rows"]:
        row["seed"] = 0
    assert parse_results(merged) == parse_results(whole)


def test_merging_one_results_file_with_itself_changes_nothing(story, save):
    path = save("results.json", story())
    once = merge_results([path])
    assert merge_results([path, path]) == once
    for row in once["evaluation"]["rows"]:
        assert row.pop("seed") == 0
    assert once == json.loads(json.dumps(story()))


def test_seeds_are_averaged_in_tables(save):
    merged = merge_results([save("0.json", evaluation(0, 0.8)), save("1.json", evaluation(1, 0.6))])
    assert merged["evaluation"]["seed"] == [0, 1]
    assert accuracy_rows(merged["evaluation"])[0]["all_sensors"] == pytest.approx(0.7)
    assert "mean of 2 seeds" in render_report(merged)


def test_equal_accuracies_of_two_seeds_count_twice(save):
    files = [save(f"{seed}.json", evaluation(seed, value)) for seed, value in enumerate((0.9, 0.9, 0.6))]
    rows = merge_results(files)["evaluation"]["rows"]
    assert accuracy_rows({"rows": rows})[0]["all_sensors"] == pytest.approx(0.8)


@pytest.mark.parametrize("key", ["dataset", "backbone", "split"])
def test_results_that_cannot_be_compared_are_refused(save, key):
    paths = [save("one.json", evaluation()), save("two.json", evaluation(**{key: "other"}))]
    with pytest.raises(ConfigError, match=rf"one.json has {key} .* two.json has 'other'"):
        merge_results(paths)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not JSON|cannot be read|cannot read"),
        ({"hello": 1}, "no result file"),
        ([], "no result file"),
        ({"rows": [{"present": ["a"], "ratio": 2.0, "accuracy": 0.5}]}, r"rows\.0\.ratio"),
        ({"bench": [{"present": ["a"], "ratio": 0.0}]}, r"bench\.0\.latency_ms' is missing"),
        ({"title": "nothing else"}, "holds an evaluation"),
    ],
)
def test_a_file_that_is_no_result_is_refused(save, content, said):
    with pytest.raises(InputError, match=said):
        merge_results([save("odd.json", content)])


def test_a_missing_file_and_no_file_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.json"):
        merge_results([tmp_path / "nowhere.json"])
    with pytest.raises(ConfigError, match="no result file was given"):
        merge_results([])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("accuracy", "0.9"),
        ("accuracy", 1.5),
        ("accuracy", float("nan")),
        ("present", "abc"),
        ("present", []),
        ("macs", 1.5),
        ("ratio", True),
    ],
)
def test_a_wrong_type_is_named_by_its_key(key, value):
    row = {"present": ["a"], "ratio": 0.0, "accuracy": 0.5, key: value}
    with pytest.raises(InputError, match=rf"evaluation\.rows\.0\.{key}"):
        parse_results({"evaluation": {"rows": [row]}})


def test_results_still_in_memory_may_hold_numpy_numbers_and_tuples():
    row = {
        "present": ("a",),
        "ratio": np.float64(0.5),
        "accuracy": np.float32(0.5),
        "macs": np.int64(7),
    }
    assert parse_results({"evaluation": {"rows": [row]}}).evaluation.rows[0].macs == 7
    with pytest.raises(InputError, match="ndarray"):
        parse_results({"evaluation": {"rows": np.zeros(3)}})
