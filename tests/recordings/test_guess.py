"""A recipe from what files look like."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentryfuse.errors import DataError
from sentryfuse.recordings.guess import guess
from sentryfuse.recordings.make import make_file
from sentryfuse.recordings.names import read_file_names, role_of, sensors_of, unit_of
from sentryfuse.recordings.recipe import load_recipe, make_recipe, write_recipe
from tests.loggers import label_at, rows, write_people


def of(folder, *sources):
    return guess([*sources] or [folder], beside=folder)


def table(path: Path, header: str, lines) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(header + "\n" + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_a_file_a_sensor_and_person(tmp_path):
    found = of(tmp_path, write_people(tmp_path / "gym"))
    recipe = found.recipe
    assert not found.doubts
    assert [(s.name, s.columns, s.rate_hz) for s in recipe.sensors] == [
        ("acc", ["x", "y", "z"], 25.0),
        ("hr", ["bpm"], 2.0),
    ]
    assert [(t.time, t.unit, t.label) for t in recipe.table] == [
        ("time", "iso", "activity"),
        ("time", "iso", ""),
    ]
    assert all("(?P<subject>" in t.pattern for t in recipe.table)
    assert recipe.folder == "gym"


def test_one_long_table_of_parquet(tmp_path):
    path = tmp_path / "all.parquet"
    pq.write_table(pa.Table.from_pylist(rows()), path)
    found = of(tmp_path, path)
    only = found.recipe.table[0]
    assert not found.doubts
    assert (only.time, only.unit, only.label, only.subject) == ("time_s", "s", "label", "subject")
    assert {s.name: s.rate_hz for s in only.sensor} == {"acc": 20.0, "hr": 2.0}


def test_a_file_a_person_with_both_sensors(tmp_path):
    for person in ("anna", "ben", "cleo"):
        table(
            tmp_path / f"{person}.csv",
            "timestamp,accX,accY,accZ,temp,state",
            [
                f"{1700000000000 + 20 * i},{i},{i},{i},{i if i % 5 == 0 else ''},{label_at(i / 50)}"
                for i in range(900)
            ],
        )
    found = of(tmp_path)
    only = found.recipe.table[0]
    assert not found.doubts
    assert only.unit == "ms"
    assert {s.name: (s.columns, s.rate_hz) for s in only.sensor} == {
        "acc": (["accX", "accY", "accZ"], 50.0),
        "temp": (["temp"], 10.0),
    }
    assert "(?P<subject>" in only.pattern


def test_edge_impulse_labels_stand_in_file_names(tmp_path):
    for label in ("wave", "idle"):
        for i in range(3):
            table(
                tmp_path / f"{label}.{i}.csv",
                "timestamp,accX,accY,accZ",
                [f"{16 * k},{k},{k},{k}" for k in range(2000)],
            )
    found = of(tmp_path)
    only = found.recipe.table[0]
    assert not found.doubts
    assert only.unit == "ms"
    assert "(?P<label>" in only.pattern
    assert "(?P<recording>" in only.pattern
    assert only.sensor[0].rate_hz == 62.5
    write_recipe(tmp_path / "r.toml", found.recipe, remarks=found.remarks)
    made = make_file(load_recipe(tmp_path / "r.toml"), tmp_path / "m.npz").plain()
    assert made["classes"].keys() == {"idle", "wave"}
    assert all(split["n_windows"] for split in made["splits"].values())


def test_a_table_without_header_whose_rows_end_in_a_semicolon(tmp_path):
    lines = [
        f"{k},{label_at(i / 20)},{49105962326000 + i * 50000000},{i},{-i};"
        for k in range(3)
        for i in range(900)
    ]
    found = of(tmp_path, table(tmp_path / "raw.txt", lines[0], lines[1:]))
    only = found.recipe.table[0]
    assert (only.time, only.unit, only.label) == ("c2", "ns", "c1")
    assert "begin anew" in " ".join(found.doubts)
    assert "no header" in " ".join(found.doubts)


def test_folders_may_be_splits_and_labels(tmp_path):
    for split in ("train", "test"):
        for label in ("a", "b"):
            for i in (1, 2):
                table(tmp_path / split / label / f"{i}.csv", "t,v", [f"{k / 50},{k}" for k in range(300)])
    only = of(tmp_path).recipe.table[0]
    for group in ("split", "label", "recording"):
        assert f"(?P<{group}>" in only.pattern


def test_rows_that_name_their_sensor(tmp_path):
    lines = []
    for i in range(2000):
        lines.append(f"{i * 20},acc,{i},{i},{i},{label_at(i / 50)}")
        if i % 5 == 0:
            lines.append(f"{i * 20},hr,{60 + i % 7},,,{label_at(i / 50)}")
    path = table(tmp_path / "all.csv", "time_ms,sensor,v1,v2,v3,label", lines)
    only = of(tmp_path, path).recipe.table[0]
    assert only.sensor_column == "sensor"
    assert {s.name: (s.where, s.columns, s.rate_hz) for s in only.sensor} == {
        "acc": ("acc", ["v1", "v2", "v3"], 50.0),
        "hr": ("hr", ["v1"], 10.0),
    }


@pytest.mark.parametrize(
    ("scale", "start", "unit"),
    [
        (1, 1.7e9, "s"),
        (1e3, 1.7e12, "ms"),
        (1e6, 1.7e15, "us"),
        (1e9, 1.7e18, "ns"),
        (1, 0.5, "s"),
        (1e3, 0, "ms"),
    ],
)
def test_the_unit_of_time_shows_in_its_size(tmp_path, scale, start, unit):
    lines = [
        f"{start + i * 0.02 * scale:.2f},{i},{label_at(i / 50)}"
        if scale == 1
        else f"{int(start) + round(i * 0.02 * scale)},{i},{label_at(i / 50)}"
        for i in range(900)
    ]
    found = of(tmp_path, table(tmp_path / "a.csv", "time,v,label", lines))
    assert found.recipe.table[0].unit == unit
    assert found.recipe.sensors[0].rate_hz == 50
    assert not found.doubts


def test_what_cannot_be_known_is_a_doubt(tmp_path):
    one = table(tmp_path / "a" / "a.csv", "time,v,label", [f"{i},{i},{label_at(i / 50)}" for i in range(900)])
    assert "s or ms" in of(tmp_path, one).doubts[0]
    none = table(tmp_path / "b" / "b.csv", "time_s,v", [f"{i / 10},{i}" for i in range(900)])
    assert "no column of labels" in of(tmp_path, none).doubts[0]
    rateless = table(
        tmp_path / "c" / "c.csv", "v,w,label", [f"{i % 3},1.5,{label_at(i / 50)}" for i in range(900)]
    )
    assert "rate" in of(tmp_path, rateless).doubts[0]


def test_rates_are_found_though_times_are_rounded_to_milliseconds(tmp_path):
    for rate in (64, 128, 51.2, 1, 0.2, 12.5):
        lines = [f"{round(1000 * i / rate)},{i},{label_at(i / rate)}" for i in range(1500)]
        found = of(tmp_path, table(tmp_path / f"{rate}" / "a.csv", "time_ms,v,label", lines))
        assert found.recipe.sensors[0].rate_hz == pytest.approx(rate, rel=1e-4)


def test_a_clock_that_ticks_seconds_is_spread(tmp_path):
    lines = [f"2024-05-31T10:00:{i // 20:02d},{i},{label_at(i / 20)}" for i in range(1100)]
    found = of(tmp_path, table(tmp_path / "a.csv", "time,v,label", lines))
    assert found.recipe.table[0].repeats == "spread"
    assert found.recipe.sensors[0].rate_hz == pytest.approx(20, rel=0.02)


def test_empty_labels_between_equal_ones_continue(tmp_path):
    lines = [f"{i / 10},{i},{label_at(i / 10) if i % 10 == 0 else ''}" for i in range(600)]
    found = of(tmp_path, table(tmp_path / "a.csv", "time_s,v,label", lines))
    assert found.recipe.table[0].empty_label == "continues"


def test_dates_and_times_of_day_may_stand_apart(tmp_path):
    lines = [f"2024-05-31,23:59:{i // 10:02d}.{i % 10}00,{i},{label_at(i / 10)}" for i in range(600)]
    lines += [f"2024-06-01,00:00:{i // 10:02d}.{i % 10}00,{i},{label_at(i / 10)}" for i in range(600)]
    found = of(tmp_path, table(tmp_path / "a.csv", "Date,Time,v,label", lines))
    only = found.recipe.table[0]
    assert (only.date, only.time, only.unit, found.recipe.sensors[0].rate_hz) == ("Date", "Time", "iso", 10)
    write_recipe(tmp_path / "r.toml", found.recipe, remarks=[])
    assert make_file(load_recipe(tmp_path / "r.toml"), tmp_path / "m.npz").counts.of("v").gaps == 0


def test_zones_here_and_none_there_are_a_doubt(tmp_path):
    for name, zone in (("p1", "Z"), ("p2", "")):
        lines = [f"2024-05-31T10:00:{i // 10:02d}.{i % 10}{zone},{i},{label_at(i / 10)}" for i in range(600)]
        table(tmp_path / f"{name}.csv", "time,v,label", lines)
    assert "zone" in of(tmp_path).doubts[0]


def test_words_among_numbers_are_taken_for_not_measured_and_named(tmp_path):
    lines = [f"{i / 10},{'OVF' if i % 30 == 3 else i},{label_at(i / 10)}" for i in range(600)]
    found = of(tmp_path, table(tmp_path / "a.csv", "time_s,v,label", lines))
    assert found.recipe.nulls == ["OVF"]
    assert any("OVF" in remark for remark in found.remarks)
    write_recipe(tmp_path / "r.toml", found.recipe, remarks=[])
    assert make_file(load_recipe(tmp_path / "r.toml"), tmp_path / "m.npz").counts.of("v").no_value == 20


def test_labels_of_stretches_of_time(tmp_path):
    for k in (1, 2, 3):
        table(tmp_path / f"p{k}_acc.csv", "time_s,x,y", [f"{i / 10},{i},{-i}" for i in range(600)])
        table(
            tmp_path / f"p{k}_notes.csv", "start_s,end_s,label", ["0,10,rest", "10,25.5,walk", "40,50,rest"]
        )
        table(tmp_path / f"p{k}_more.csv", "start,end,activity", ["26,36,walk"])
    found = of(tmp_path)
    assert not found.doubts
    more, notes = (t for t in found.recipe.table if t.until)
    assert (more.time, more.unit) == ("start", "s"), "as the sensors beside it"
    assert (notes.time, notes.until, notes.label, notes.sensor) == ("start_s", "end_s", "label", [])
    write_recipe(tmp_path / "r.toml", found.recipe, remarks=[])
    made = make_file(load_recipe(tmp_path / "r.toml"), tmp_path / "m.npz").plain()
    assert made["splits"]["test"]["subjects"]
    with np.load(tmp_path / "m.npz") as file:
        starts = file["time_s"]
    assert starts.max() <= 50 - found.recipe.window_s
    assert not ((starts > 25.5 - found.recipe.window_s) & (starts < 40) & (starts != 26)).any()
    assert 26 in starts


def test_notes_in_the_folder_are_left_out_and_named(tmp_path):
    write_people(tmp_path / "gym", seconds=20)
    (tmp_path / "gym" / "README.txt").write_text("measured in spring\nby us\n")
    found = of(tmp_path, tmp_path / "gym")
    assert any("README.txt" in remark for remark in found.remarks)
    assert len(found.recipe.sensors) == 2


def test_cells_must_agree_with_what_a_name_says(tmp_path):
    lines = [f"{i / 10},{i},{i % 3 + 1},{i // 300},{label_at(i / 10)}" for i in range(900)]
    only = of(tmp_path, table(tmp_path / "a.csv", "time_s,v,set,id,label", lines)).recipe.table[0]
    assert (only.split, only.subject) == ("", "id"), "sets of an exercise are no splits"
    lines = [f"{i / 10},{i},{('train', 'test')[i > 450]},{i},{label_at(i / 10)}" for i in range(900)]
    only = of(tmp_path, table(tmp_path / "b.csv", "time_s,v,set,id,label", lines)).recipe.table[0]
    assert (only.split, only.subject) == ("set", ""), "a number for each row is nobody"
    lines = [f"{i / 10},{i},{i // 300},{label_at(i / 10)}" for i in range(900)]
    assert (
        of(tmp_path, table(tmp_path / "c.csv", "time_s,v,split,label", lines)).recipe.table[0].split
        == "split"
    )


def test_columns_nobody_needs_are_named(tmp_path):
    lines = [f"{i},{i / 10},{i},note {i},{label_at(i / 10)}" for i in range(600)]
    found = of(tmp_path, table(tmp_path / "a.csv", "index,time_s,v,comment,label", lines))
    assert found.recipe.sensors[0].columns == ["v"]
    assert any("comment" in remark and "index" in remark for remark in found.remarks)


def test_many_files_become_one_pattern(tmp_path):
    write_people(tmp_path / "gym", people=5, seconds=20)
    assert [t.files for t in of(tmp_path, tmp_path / "gym").recipe.table] == [["p*_acc.csv"], ["p*_hr.csv"]]


def test_the_recipe_survives_its_file(tmp_path):
    write_people(tmp_path / "gym", seconds=20)
    found = of(tmp_path)
    write_recipe(tmp_path / "r.toml", found.recipe, remarks=found.remarks)
    back = load_recipe(tmp_path / "r.toml")
    assert Path(back.folder) == (tmp_path / "gym").resolve()
    assert back.model_copy(update={"folder": found.recipe.folder}) == found.recipe


def test_awkward_words_survive_the_file_of_a_recipe(tmp_path):
    words = ['a "b"', "c\\d", "e'f", "t\tab", "\u00e4\u20ac", "x\x7fy", ""]
    recipe = make_recipe(
        {
            "label_names": {word or "_": word or "_" for word in words},
            "nulls": words,
            "split": {"train": words[:3]},
            "table": [
                {
                    "files": ["a"],
                    "pattern": r"(?P<subject>\d+)'",
                    "time": "t",
                    "sensor": [{"name": "s", "columns": words[:2], "rate_hz": 1.5}],
                }
            ],
        },
        "test",
    )
    write_recipe(tmp_path / "r.toml", recipe, remarks=[])
    back = load_recipe(tmp_path / "r.toml")
    assert back.model_copy(update={"folder": ".", "hop_s": None}) == recipe


BAD_RECIPES = {
    "nothing": ({}, "table is missing"),
    "an unknown key": ({"tables": []}, "tables is unknown"),
    "no sensor": ({"table": [{"files": ["a"]}]}, "names no sensor"),
    "an unknown unit": ({"table": [{"unit": "min"}]}, "table.1.unit"),
    "a window of nothing": ({"window_s": 0, "table": [{}]}, "window_s"),
    "no rate": ({"table": [{"sensor": [{"name": "a", "columns": ["x"]}]}]}, "rate_hz is missing"),
    "a pattern that is none": (
        {"table": [{"pattern": "(", "sensor": [{"name": "a", "columns": ["x"], "rate_hz": 1}]}]},
        "no regular expression",
    ),
    "an unknown group": (
        {"table": [{"pattern": "(?P<who>.)", "sensor": [{"name": "a", "columns": ["x"], "rate_hz": 1}]}]},
        "subject, recording, label, split",
    ),
    "a name with a comma": (
        {"table": [{"sensor": [{"name": "a,b", "columns": ["x"], "rate_hz": 1}]}]},
        "a,b",
    ),
    "two rates": (
        {"table": [{"sensor": [{"name": "a", "columns": ["x"], "rate_hz": r}]} for r in (1, 2)]},
        "two rates",
    ),
}


@pytest.mark.parametrize(("data", "said"), BAD_RECIPES.values(), ids=BAD_RECIPES)
def test_a_wrong_recipe_is_refused_in_one_sentence(data, said):
    with pytest.raises(DataError, match=said) as raised:
        make_recipe(data, "r.toml")
    assert "\n" not in str(raised.value)


def test_a_recipe_that_is_no_toml(tmp_path):
    (tmp_path / "r.toml").write_text("name = ", encoding="utf-8")
    with pytest.raises(DataError, match="not TOML"):
        load_recipe(tmp_path / "r.toml")
    with pytest.raises(DataError, match="data guess"):
        load_recipe(tmp_path / "none.toml")


def test_names_of_columns_tell_roles_units_and_sensors():
    assert [
        role_of(c) for c in ("Time (s)", "timestamp_ms", "Activity", "user_id", "acc_x", "Unnamed: 0", "y")
    ] == [
        "time",
        "time",
        "label",
        "subject",
        None,
        "index",
        "label",
    ]
    assert [unit_of(c) for c in ("Time (s)", "timestamp_ms", "t [us]", "time")] == ["s", "ms", "us", None]
    assert sensors_of(["Accel X (g)", "Accel Y (g)", "Gyro-x", "Gyro-y", "HR", "wrist.eda"]) == {
        "Accel": ["Accel X (g)", "Accel Y (g)"],
        "Gyro": ["Gyro-x", "Gyro-y"],
        "HR": ["HR"],
        "wrist": ["wrist.eda"],
    }
    assert sensors_of(["x", "y", "z"], alone="acc") == {"acc": ["x", "y", "z"]}
    assert sensors_of(["a/b"]) == {"a_b": ["a/b"]}


def test_names_of_files_of_different_make():
    found = read_file_names(
        ["p1/acc.csv", "p2/day2/acc.csv"],
        {"p1/acc.csv": 0, "p2/day2/acc.csv": 0},
        labelled=True,
        peopled=False,
    )
    assert "subject" in found.roles


def test_folders_without_tables_and_what_needs_no_recipe(tmp_path):
    with pytest.raises(DataError, match="holds no table"):
        of(tmp_path)
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(DataError, match="needs no recipe"):
        of(tmp_path)
    with pytest.raises(DataError, match="needs no recipe"):
        of(tmp_path, tmp_path / "x.npy")
    with pytest.raises(DataError, match="no file or folder"):
        of(tmp_path, tmp_path / "none.csv")
    with pytest.raises(DataError, match="no column of numbers"):
        of(tmp_path, table(tmp_path / "a.csv", "time,note", [f"{i},word{i}" for i in range(50)]))


def test_what_is_guessed_can_be_made(tmp_path):
    write_people(tmp_path / "gym")
    found = of(tmp_path)
    write_recipe(tmp_path / "r.toml", found.recipe, remarks=[*found.remarks])
    made = make_file(load_recipe(tmp_path / "r.toml"), tmp_path / "m.npz")
    plain = json.loads(json.dumps(made.plain()))
    assert plain["subjects"].keys() == {"p1", "p2", "p3"}
    assert plain["windows_tried"] == plain["windows_kept"] + sum(plain["windows_dropped"].values())
    for sensor in plain["sensors"].values():
        left = (
            sensor["used"] + sensor["unused"] + sensor["same_time"] + sensor["no_time"] + sensor["no_value"]
        )
        assert sensor["rows"] == left
