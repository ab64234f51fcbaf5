"""A study through the command line: what is left, what a repetition does, how bad input is answered."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sentryfuse.study.design import load_design
from sentryfuse.study.lines import LINES
from sentryfuse.study.verify import agree
from tests.study.conftest import tiny_study


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_every_cell_has_a_line_and_what_failed_is_named(study):
    assert study.done.code == 2
    assert study.done.json["lines"] == len(study.lines) == 2 + 2 * 4
    assert [job["name"] for job in study.done.json["failed"]] == ["mult-lame-gate-seed0"]
    assert "validation" in study.done.json["failed"][0]["error"]
    assert {line["method"] for line in study.lines} == {"dense", "gate/aware", "magnitude/blind"}
    places = {(line["method"], line["protocol"], line["ratio"], line["missing_rate"]) for line in study.lines}
    assert len(places) == len({line["key"] for line in study.lines}) == len(study.lines)


def test_a_line_has_the_fields_that_are_documented(study):
    assert [*study.lines[-1]] == [
        "key", "backbone", "dataset", "seed", "fold", "training", "method", "scorer", "sensors", "allocation",
        "repair", "protocol", "ratio", "missing_rate", "accuracy", "macro_f1", "auroc", "macs", "params",
        "n_windows", "model",
    ]  # fmt: skip


def test_answers_are_kept_for_every_line(study):
    kept: dict[str, float] = {}
    for path in (study.out / "answers").iterdir():
        with np.load(path, allow_pickle=False) as arrays:
            y = arrays["y"]
            kept |= {
                key: (arrays[key].argmax(1) == y).mean() for key in arrays if key not in ("windows", "y")
            }
    assert kept == {line["key"]: line["accuracy"] for line in study.lines}


def test_times_hold_what_a_decision_took(study):
    times = [json.loads(line) for line in (study.out / "times.jsonl").read_text().splitlines()]
    assert [facts["kind"] for facts in times] == ["training", *["evaluation"] * 3]
    assert ["decision_ms" in facts for facts in times] == [False, False, True, True]
    assert all(0 < facts["decision_ms"]["p50"] < 1000 for facts in times[2:])


def test_what_is_there_is_never_computed_again(study, command):
    before = contents(study.out)
    done = command("study", "--out", study.out, "--data", study.data, "--only", "tiny")
    assert (done.code, done.err) == (0, "")
    assert "0 new lines" in done.out
    assert contents(study.out) == before


def test_lines_of_another_study_count_where_the_keys_are_equal(study, command, tmp_path):
    out = tmp_path / "out"
    design = tmp_path / "more.json"
    design.write_text(json.dumps(tiny_study(missing_rates=[0.0])))
    out.mkdir()
    shutil.copy(study.out / LINES, out)
    done = command("study", "--design", design, "--data", study.data, "--out", out)
    assert (done.code, done.err) == (0, "")
    assert "0 new lines" in done.out


def test_half_a_last_line_is_made_whole_again(study, command, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(study.out, out)
    text = (out / LINES).read_text()
    (out / LINES).write_text(text[: text[:-1].rindex("\n") + 20])
    done = command("study", "--out", out, "--data", study.data, "--only", "tiny", "--jobs", 1)
    assert done.code == 0
    assert "half a line" in done.err
    assert "1 new lines, 9 were there" in done.out
    assert sorted((out / LINES).read_text().splitlines()) == sorted(text.splitlines())


def test_lines_of_one_training_are_never_of_two_models(study, command, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(study.out, out)
    text = (out / LINES).read_text()
    (out / LINES).write_text(text[: text[:-1].rindex("\n") + 1])
    weights = out / "runs" / "mult-tiny-gate-seed0" / "model.safetensors"
    tensors = load_file(weights)
    save_file({name: 2 * tensor for name, tensor in tensors.items()}, weights)
    before = (out / LINES).read_bytes()
    done = command("study", "--out", out, "--data", study.data, "--only", "tiny", "--jobs", 1)
    assert done.code == 2
    assert "its lines were made with the model" in done.err
    assert (out / LINES).read_bytes() == before


def test_verify_computes_lines_again_and_names_what_differs(study, command, tmp_path):
    before = contents(study.out)
    out = tmp_path / "out"
    out.mkdir()
    shutil.copy(study.out / "design.json", out)
    lines = study.lines
    lines[3]["accuracy"] += 0.1
    (out / LINES).write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ["study", "--out", out, "--runs", study.out / "runs", "--data", study.data, "--jobs", 1]
    done = command(*words, "--verify", 100, "--only", "tiny", "--json", "-")
    assert done.code == 2
    assert "1 of 1 trained models are there; 0 are trained again" in done.err
    assert f"method {lines[3]['method']}" in done.err.splitlines()[-1]
    assert sum(row["agree"] for row in done.json["rows"]) == len(lines) - 1 == 9
    assert contents(study.out) == before
    assert sorted(path.name for path in out.iterdir()) == ["design.json", LINES]


@pytest.mark.parametrize(
    ("change", "same"),
    [({}, True), ({"accuracy": 0.8015}, True), ({"accuracy": 0.805}, False), ({"auroc": 0.71}, False),
     ({"auroc": None}, False), ({"macs": 11}, False), ({"n_windows": 999}, False)],
)  # fmt: skip
def test_a_line_agrees_if_its_costs_are_equal_and_its_scores_near(change, same):
    line = {"accuracy": 0.8, "macro_f1": 0.7, "auroc": 0.7, "macs": 10, "params": 5, "n_windows": 1000}
    assert agree(line, {**line, **change}) is same


def test_a_folder_of_another_training_is_not_adopted(study, command, tmp_path):
    design = tmp_path / "longer.json"
    design.write_text(json.dumps(tiny_study(epochs=2)))
    words = ["study", "--design", design, "--data", study.data, "--runs", study.out / "runs", "--jobs", 1]
    done = command(*words, "--out", tmp_path / "out")
    assert done.code == 2
    assert "epochs is 1 and not 2" in done.err.splitlines()[-1]


def test_the_list_has_all_cells_of_all_turns(command):
    done = command("study", "--preset", "full", "--list", "--json", "-")
    assert done.code == 0
    assert len(done.json["cells"]) == 144 * 3
    assert len(done.json["trainings"]) == 81
    few = command("study", "--preset", "full", "--list", "--only", "mult-dsads", "--json", "-")
    assert len(few.json["cells"]) == 16 * 3
    assert len(command("study", "--preset", "full", "--list").out.splitlines()) > 144 + 81


def test_the_presets_can_be_run():
    from sentryfuse.study.runner import check_design

    for name in ("full", "quick"):
        check_design(load_design(name))


BAD = {
    "nowhere to write": ("study --preset quick", "--out"),
    "nothing to compare": ("study --out W/new", "--preset"),
    "an unknown preset": ("study --preset huge --out W/new", "quick"),
    "two designs": ("study --preset quick --design DESIGN --out W/new", "one of them"),
    "a missing design": ("study --design W/none.json --out W/new", "none.json"),
    "a design that is no JSON": ("study --design TEXT --out W/new", "text.txt"),
    "a design that is a list": ("study --design LIST --out W/new", "list.json"),
    "another design": ("study --preset quick --out OUT", "another study"),
    "no data folder": ("study --design DESIGN --out W/new", "--data"),
    "a data folder that is none": ("study --design DESIGN --data TEXT --out W/new", "text.txt"),
    "a data folder without the file": ("study --design DESIGN --data W --out W/new", "tiny.npz"),
    "a name that no training has": ("study --preset quick --out W/new --only lstm", "lstm"),
    "an unknown engine": ("study --preset quick --out W/new --engine dask", "ray"),
    "an address without ray": ("study --preset quick --out W/new --address x:1", "--engine ray"),
    "no jobs": ("study --preset quick --out W/new --jobs 0", "--jobs"),
    "an unknown backbone": ("study --design BACKBONE --data DATA --out W/new", "lstm"),
    "an unknown scorer": ("study --design SCORER --data DATA --out W/new", "luck"),
    "a folder of other things": ("study --preset quick --out W", "holds no study"),
    "writing into a file": ("study --preset quick --out TEXT", "text.txt"),
    "verifying nothing": ("study --out W/new --verify 3", "no results"),
    "verifying with other data": ("study --out OUT --data OTHER --verify 3 --only tiny", "this data"),
}


@pytest.mark.parametrize(("line", "said"), BAD.values(), ids=BAD)
def test_bad_input_is_answered_in_one_line_and_leaves_no_file(command, study, tmp_path, line, said):
    room = tmp_path / "w"
    room.mkdir()
    (room / "text.txt").write_text("text")
    (room / "list.json").write_text("[]")
    designs = {
        "BACKBONE": tiny_study(backbones=["lstm"]),
        "SCORER": tiny_study(methods=[{"scorer": "luck"}]),
        "DESIGN": tiny_study(),
    }
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(study.data / "lame.npz", other / "tiny.npz")
    places = {
        "W": room, "TEXT": room / "text.txt", "LIST": room / "list.json", "OUT": study.out,
        "DATA": study.data, "OTHER": other,
    }  # fmt: skip
    for name, design in designs.items():
        places[name] = tmp_path / f"{name}.json"
        places[name].write_text(json.dumps(design))
    words = []
    for word in line.split():
        first, _, rest = word.partition("/")
        found = places.get(first)
        words.append(word if found is None else found / rest if rest else found)
    before = contents(room)
    done = command(*words)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1, done.err
    assert said in done.err
    assert contents(room) == before
