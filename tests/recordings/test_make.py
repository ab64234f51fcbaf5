"""Files by a recipe into one npz: quirks of loggers, splits by subject, everything counted."""

from __future__ import annotations

import numpy as np
import pytest

import sentryfuse as sf
from sentryfuse.errors import ConfigError, DataError
from sentryfuse.recordings import make_file, make_recipe
from tests.loggers import label_at


def write(path, lines, header="t,v,label", encoding="utf-8"):
    path.write_text("\n".join([header, *lines]) + "\n", encoding=encoding)


def lines_of(seconds=40, rate=10, start=0.0):
    return [f"{start + i / rate:.3f},{i},{label_at(i / rate)}" for i in range(int(seconds * rate))]


def recipe_of(folder, *, pattern=r"(?P<subject>p\d+)", files=("*.csv",), table=None, **rules):
    entry = {
        "files": list(files),
        "pattern": pattern,
        "time": "t",
        "unit": "s",
        "label": "label",
        "sensor": [{"name": "v", "columns": ["v"], "rate_hz": 10.0}],
        **(table or {}),
    }
    return make_recipe({"folder": str(folder), "window_s": 1.0, "table": [entry], **rules}, "test")


def people(folder, n=5, **how):
    for k in range(n):
        write(folder / f"p{k}.csv", lines_of(**how))
    return folder


def made(folder, recipe):
    found = make_file(recipe, folder / "m.npz")
    windows = sf.load_windows(folder / "m.npz")
    plain = found.plain()
    assert plain["windows_kept"] == plain["n_windows"] == len(windows)
    assert plain["windows_tried"] == plain["windows_kept"] + sum(plain["windows_dropped"].values())
    for c in plain["sensors"].values():
        assert c["rows"] == c["no_time"] + c["no_value"] + c["same_time"] + c["samples"]
        assert c["used"] <= c["samples"]
    assert not [p for p in folder.iterdir() if p.name.startswith(".")], "nothing is left behind"
    return windows, found


def test_names_of_subjects_and_starts_are_kept_beside_the_layout(tmp_path):
    windows, _ = made(tmp_path, recipe_of(people(tmp_path)))
    with np.load(tmp_path / "m.npz") as file:
        assert sorted(set(file["subject"].tolist())) == [f"p{k}" for k in range(5)]
        assert file["time_s"].shape == (len(windows),)
        assert file["time_s"][:3].tolist() == [0, 1, 2]


def test_unsorted_repeated_and_broken_rows_are_mended_or_counted(tmp_path):
    rng = np.random.default_rng(0)
    people(tmp_path)
    clean = sf.load_windows(made(tmp_path, recipe_of(tmp_path))[1].path)
    messy = tmp_path / "messy"
    messy.mkdir()
    for k in range(5):
        lines = lines_of()
        lines += [*lines[7:9], ",5,walk", "3.05,,rest", "17.1,9"]
        write(messy / f"p{k}.csv", [lines[i] for i in rng.permutation(len(lines))])
    windows, found = made(messy, recipe_of(messy))
    np.testing.assert_array_equal(windows.raw["v"], clean.raw["v"])
    np.testing.assert_array_equal(windows.y, clean.y)
    c = found.counts.of("v")
    assert (c.same_time, c.no_time, c.no_value, c.sorted, found.counts.ragged) == (10, 5, 5, 5, 5)
    said = " ".join(found.counts.sentences())
    assert "5 rows left out" in said
    assert "10 at a time that was there before" in said


@pytest.mark.parametrize(
    "how", ["utf-16", "semicolons", "tabs", "numbers for labels", "iso", "nanoseconds", "a split file"]
)
def test_the_same_recording_in_another_dress_gives_the_same_windows(tmp_path, how):
    plain = made(tmp_path, recipe_of(people(tmp_path)))[0]
    folder = tmp_path / "other"
    folder.mkdir()
    table = {}
    rules = {}
    pattern = r"(?P<subject>p\d+)"
    files = ("*.csv",)
    for k in range(5):
        lines, header, encoding, name = lines_of(), "t,v,label", "utf-8", f"p{k}.csv"
        cells = [line.split(",") for line in lines]
        if how == "utf-16":
            encoding = "utf-16"
        elif how == "semicolons":
            lines, header = [";".join(c).replace(".", ",") for c in cells], "t;v;label"
        elif how == "tabs":
            lines, header, name, files = ["\t".join(c) for c in cells], "t\tv\tlabel", f"p{k}.tsv", ("*.tsv",)
        elif how == "numbers for labels":
            numbers = {"rest": "7", "walk": "8", "run": "9.0"}
            lines = [",".join([t, v, numbers[a]]) for t, v, a in cells]
            rules = {"label_names": {"7": "rest", "8": "walk", "9": "run"}}
        elif how == "iso":
            stamps = np.datetime64("2024-05-31") + np.array(
                [round(float(c[0]) * 1e6) for c in cells], "m8[us]"
            )
            lines = [f"{s}Z,{v},{a}" for s, (_, v, a) in zip(stamps, cells, strict=True)]
            table = {"unit": "iso"}
        elif how == "nanoseconds":
            lines = [f"{1_700_000_000_000_000_000 + round(float(t) * 1e9)},{v},{a}" for t, v, a in cells]
            table = {"unit": "ns"}
        elif how == "a split file":
            write(folder / f"p{k}_b.csv", lines[200:])
            lines, name = lines[:200], f"p{k}_a.csv"
        write(folder / name, lines, header, encoding)
    other = made(folder, recipe_of(folder, pattern=pattern, files=files, table=table, **rules))[0]
    np.testing.assert_array_equal(other.raw["v"], plain.raw["v"])
    assert [other.classes[k] for k in other.y] == [plain.classes[k] for k in plain.y]
    np.testing.assert_array_equal(other.split, plain.split)


def test_one_long_table_with_people_in_turns(tmp_path):
    plain = made(tmp_path, recipe_of(people(tmp_path)))[0]
    folder = tmp_path / "long"
    folder.mkdir()
    rows = [f"{line},p{k}" for line in lines_of() for k in range(5)]
    write(folder / "all.csv", rows, "t,v,label,who")
    other = made(folder, recipe_of(folder, pattern="", table={"subject": "who"}))[0]
    np.testing.assert_array_equal(other.raw["v"], plain.raw["v"])
    np.testing.assert_array_equal(other.subject, plain.subject)


def test_rows_without_times_follow_each_other_at_the_rate(tmp_path):
    for k in range(3):
        write(tmp_path / f"p{k}.csv", [line.split(",", 1)[1] for line in lines_of()], "v,label")
    windows, _ = made(tmp_path, recipe_of(tmp_path, table={"time": ""}))
    assert windows.raw["v"][0, :, 0].tolist() == list(range(10))


def test_rows_without_times_follow_each_other_person_by_person(tmp_path):
    plain = [line.split(",", 1)[1] for line in lines_of()]
    write(tmp_path / "all.csv", [f"{line},p{k}" for line in plain for k in range(40)], "v,label,who")
    windows, found = made(tmp_path, recipe_of(tmp_path, pattern="", table={"time": "", "subject": "who"}))
    assert len(windows) == 40 * 40
    assert windows.raw["v"][1, :, 0].tolist() == list(range(10, 20))
    assert found.counts.of("v").gaps == 0


def test_what_a_person_is_joins_every_window_of_theirs(tmp_path):
    people(tmp_path, 3)
    write(tmp_path / "who.tsv", [f"p{k}\t{20 + k}" for k in range(3)], "subject\tage")
    recipe = recipe_of(tmp_path).model_dump()
    recipe["table"].append(
        {
            "files": ["who.tsv"],
            "subject": "subject",
            "sensor": [{"name": "age", "columns": ["age"], "rate_hz": 0}],
        }
    )
    windows, found = made(tmp_path, make_recipe(recipe, "test"))
    assert found.counts.sentences() == []
    np.testing.assert_array_equal(windows.raw["age"][:, 0, 0], 20 + windows.subject)


def test_labels_may_stand_in_a_file_of_their_own(tmp_path):
    for k in range(3):
        write(tmp_path / f"p{k}.csv", [line.rsplit(",", 1)[0] for line in lines_of()], "t,v")
        write(tmp_path / f"p{k}.tsv", [f"{t}\t{label_at(t)}" for t in range(0, 40, 10)], "t\tlabel")
    recipe = recipe_of(tmp_path, table={"label": ""}).model_dump()
    recipe["table"].append(
        {"files": ["*.tsv"], "pattern": r"(?P<subject>p\d+)", "time": "t", "unit": "s", "label": "label"}
    )
    windows, _ = made(tmp_path, make_recipe(recipe, "test"))
    assert len(windows) == 120
    assert np.bincount(windows.y).tolist() == [60, 30, 30]  # rest twice


def test_labels_of_somebody_else_are_said(tmp_path):
    people(tmp_path, 3)
    write(tmp_path / "q7.tsv", ["0\trest"], "t\tlabel")
    recipe = recipe_of(tmp_path).model_dump()
    recipe["table"].append(
        {"files": ["*.tsv"], "pattern": r"(?P<subject>q\d+)", "time": "t", "unit": "s", "label": "label"}
    )
    _, found = made(tmp_path, make_recipe(recipe, "test"))
    assert any("labels of q7 belong to no recording" in remark for remark in found.counts.remarks)


def test_labels_may_be_left_out_and_unlabelled_rows_are_counted(tmp_path):
    people(tmp_path)
    windows, found = made(tmp_path, recipe_of(tmp_path, ignore_labels=["run"]))
    assert windows.classes == ("rest", "walk")
    assert found.counts.dropped["unlabelled"] == 50


def test_two_recordings_of_a_person_share_what_the_person_is(tmp_path):
    for k in range(3):
        for part in "ab":
            write(tmp_path / f"p{k}_{part}.csv", lines_of())
    write(tmp_path / "who.tsv", [f"p{k}\t{20 + k}" for k in (2, 1, 0, 0)], "subject\tage")
    recipe = recipe_of(tmp_path, pattern=r"(?P<subject>p\d)_(?P<recording>\w)").model_dump()
    recipe["table"].append(
        {
            "files": ["who.tsv"],
            "subject": "subject",
            "sensor": [{"name": "age", "columns": ["age"], "rate_hz": 0}],
        }
    )
    windows, _ = made(tmp_path, make_recipe(recipe, "test"))
    assert len(windows) == 240
    np.testing.assert_array_equal(windows.raw["age"][:, 0, 0], 20 + windows.subject)


def test_rows_of_nobody_and_of_other_sensors_are_counted(tmp_path):
    lines = [f"{line},p{k},acc" for k in range(3) for line in lines_of()]
    lines += ["1.05,3,rest,,acc", "1.05,3,rest,p1,hr", "1.06,3,rest,p1,"]
    write(tmp_path / "a.csv", lines, "t,v,label,who,sensor")
    recipe = recipe_of(tmp_path, pattern="", table={"subject": "who", "sensor_column": "sensor"}).model_dump()
    recipe["table"][0]["sensor"][0]["where"] = "acc"
    _, found = made(tmp_path, make_recipe(recipe, "test"))
    assert (found.counts.nobody, found.counts.other_sensor) == (1, 2)
    assert found.counts.of("v").rows == 1200


def test_windows_without_labels_are_for_prediction_only(tmp_path):
    people(tmp_path)
    found = make_file(recipe_of(tmp_path, table={"label": ""}), tmp_path / "m.npz")
    assert any("can be predicted" in remark for remark in found.counts.remarks)
    with np.load(tmp_path / "m.npz") as file:
        assert "y" not in file
        assert "classes" not in file
        assert len(file["x_v"]) == 200


def test_people_are_split_as_asked_and_never_in_two(tmp_path):
    people(tmp_path)
    given = {"train": ["p0", "p4"], "validation": ["p1"], "test": ["p2", "p3"]}
    windows, _ = made(tmp_path, recipe_of(tmp_path, split=given))
    assert [int(windows.split[windows.subject == k][0]) for k in range(5)] == [0, 1, 2, 2, 0]
    windows, _ = made(tmp_path, recipe_of(tmp_path, split={"fold": "1/5"}))
    assert [int(windows.split[windows.subject == k][0]) for k in range(5)] == [0, 2, 1, 0, 0]
    windows, _ = made(tmp_path, recipe_of(tmp_path, split={"fractions": [0.2, 0.2, 0.6]}))
    assert np.bincount([windows.split[windows.subject == k][0] for k in range(5)]).tolist() == [1, 1, 3]


def test_files_may_say_their_split(tmp_path):
    for k, word in enumerate(("train", "val", "test")):
        write(tmp_path / f"p{k}_{word}.csv", lines_of())
    windows, _ = made(tmp_path, recipe_of(tmp_path, pattern=r"(?P<subject>p\d)_(?P<split>\w+)\."))
    assert windows.split[windows.subject == 1].tolist() == [1] * 40


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_people_are_split_by_time_with_a_margin(tmp_path, n):
    people(tmp_path, n, seconds=120)
    windows, found = made(tmp_path, recipe_of(tmp_path, hop_s=0.5))
    assert "not of new ones" in found.counts.remarks[0]
    assert found.counts.dropped["margin"] > 0
    for word in ("train", "validation", "test"):
        assert len(np.unique(windows.y[windows.indices(word)])) == 3
    with np.load(tmp_path / "m.npz") as file:
        starts, whose = file["time_s"], np.array([name[:2] for name in file["subject"]])
    for i in range(len(windows)):
        other = (windows.split != windows.split[i]) & (whose == whose[i])
        assert np.abs(starts[other] - starts[i]).min() >= 2 - 1e-6, "a window apart"


def test_a_class_that_a_split_lacks_is_said(tmp_path):
    people(tmp_path, 3)
    write(tmp_path / "p1.csv", [line for line in lines_of() if not line.endswith("run")])
    _, found = made(tmp_path, recipe_of(tmp_path))
    assert any("has no window of run" in remark for remark in found.counts.remarks)


REFUSED = {
    "one class only": ({}, {"ignore_labels": ["run", "walk"]}, "label 'rest'"),
    "no window": ({}, {"window_s": 30.0}, "no window of 30 s"),
    "a file that is not there": ({}, {"files": ["q*.csv"]}, "no such file"),
    "a column that is not there": ({"label": "what"}, {}, "lacks the column 'what'"),
    "a pattern that does not fit": ({}, {"pattern": "(?P<subject>q)"}, "does not fit"),
    "another unit": ({"unit": "ms"}, {}, "runs at"),
    "iso that is none": ({"unit": "iso"}, {}, "not ISO 8601"),
    "all in one person": ({}, {"pattern": ""}, "overlap in time"),
    "a fold too many": ({}, {"split": {"fold": "0/9"}}, "9 folds"),
    "a fold that is none": ({}, {"split": {"fold": "first"}}, "I/K"),
    "shares that are none": ({}, {"split": {"fractions": [0.5, 0.5, 0.5]}}, "add up to 1"),
    "a column of words": ({"sensor": [{"name": "v", "columns": ["label"], "rate_hz": 10}]}, {}, "no number"),
    "a hop below a step": ({}, {"hop_s": 0.01}, "below one step"),
}


@pytest.mark.parametrize(("table", "rules", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_made_is_refused_in_one_sentence_and_leaves_nothing(tmp_path, table, rules, said):
    people(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises((DataError, ConfigError), match=said) as raised:
        make_file(recipe_of(tmp_path, table=table, **rules), tmp_path / "m.npz")
    assert "\n" not in str(raised.value)
    assert sorted(tmp_path.iterdir()) == before


def test_a_clock_slower_than_the_sensor_is_refused_with_the_way_out(tmp_path):
    for k in range(3):
        write(tmp_path / f"p{k}.csv", [f"{i // 10},{i},{label_at(i / 10)}" for i in range(400)])
    with pytest.raises(DataError, match='repeats = "spread"'):
        make_file(recipe_of(tmp_path), tmp_path / "m.npz")
    windows, _ = made(tmp_path, recipe_of(tmp_path, table={"repeats": "spread"}))
    assert not np.isnan(windows.raw["v"]).any()
    assert windows.raw["v"][3, :, 0].tolist() == list(range(30, 40))


def test_sensors_that_never_meet_are_said(tmp_path):
    people(tmp_path, 3)
    for k in range(3):
        write(tmp_path / f"p{k}.tsv", [f"{1e6 + t}\t{t}" for t in range(40)], "t\tw")
    recipe = recipe_of(tmp_path).model_dump()
    recipe["table"].append(
        {
            "files": ["*.tsv"],
            "pattern": r"(?P<subject>p\d+)",
            "time": "t",
            "unit": "s",
            "sensor": [{"name": "w", "columns": ["w"], "rate_hz": 1}],
        }
    )
    _, found = made(tmp_path, make_recipe(recipe, "test"))
    assert any("check the units of time" in remark for remark in found.counts.remarks)


def test_infinite_and_huge_values_are_not_measured(tmp_path):
    people(tmp_path, 3)
    for k in range(3):
        lines = lines_of()
        lines[5], lines[16] = "0.5,inf,rest", "1.6,1e300,rest"
        write(tmp_path / f"p{k}.csv", lines)
    windows, found = made(tmp_path, recipe_of(tmp_path))
    assert np.isnan(windows.raw["v"][:2, :, 0]).sum(axis=1).tolist() == [1, 1]
    assert np.isnan(windows.raw["v"][0, 5, 0])
    assert windows.modalities[0].may_miss
    assert found.counts.of("v").no_value == 6
