"""Whatever is wrong: exit code 2, one line on standard error, no traceback, no half file."""

from __future__ import annotations

import sys

import pytest

from sentryfuse import cli
from sentryfuse.cli.output import plain


@pytest.fixture
def places(tmp_path, recording, run_folder, bundle):
    """Good and bad files by short names, as they are written in the table."""
    folder = tmp_path / "w"
    folder.mkdir()
    file = folder / "file.txt"
    file.write_text("not a recording", encoding="utf-8")
    broken = folder / "broken.bundle"
    content = bytearray(bundle.read_bytes())
    content[-100] ^= 1
    broken.write_bytes(content)
    table = folder / "table.csv"
    table.write_text("time_s,v,label\n" + "".join(f"{i / 10},{i},{'ab'[i // 200]}\n" for i in range(400)))
    unlabelled = folder / "unlabelled.csv"
    unlabelled.write_text("time_s,v\n" + "".join(f"{i / 10},{i}\n" for i in range(400)))
    unfinished = folder / "unfinished"
    unfinished.mkdir()
    (unfinished / "state.safetensors").write_bytes(b"")
    return {
        "DATA": recording,
        "RUN": run_folder,
        "BUNDLE": bundle,
        "W": folder,
        "FILE": file,
        "TABLE": table,
        "UNLABELLED": unlabelled,
        "BROKEN": broken,
        "UNFINISHED": unfinished,
    }


BAD = {
    "an unknown command": ("trian", "No such command"),
    "no sub-command": ("data", "Missing command"),
    "an unknown option": ("data list --josn -", "--josn"),
    "a missing option": ("train --out W/run", "--data"),
    "a word for a number": ("train --data DATA --out W/run --epochs many", "--epochs"),
    "a missing recording": ("data describe W/none.npz", "none.npz"),
    "a file that is no recording": ("data describe FILE", "file.txt"),
    "a picture of another kind": ("data describe DATA --plot W/p.gif", ".png"),
    "a picture into a folder": ("data describe DATA --plot W", "folder"),
    "guessing from nothing": ("data guess W/none --out W/r.toml", "no file or folder"),
    "guessing from a folder without tables": ("data guess UNFINISHED --out W/r.toml", "holds no table"),
    "guessing from what is cut already": ("data guess DATA --out W/r.toml", "needs no recipe"),
    "guessing from a text": ("data guess FILE --out W/r.toml", "one cell each"),
    "a recipe of another kind": ("data guess TABLE --out W/r.json", ".toml"),
    "a recipe into a folder": ("data guess TABLE --out W", "folder"),
    "windows of nothing": ("data make W/none.csv --out W/m.npz", "no file or folder"),
    "windows of a text": ("data make FILE --out W/m.npz", "one cell each"),
    "windows of windows": ("data make DATA --out W/m.npz", "windows already"),
    "windows of a recipe that is not there": ("data make W/none.toml --out W/m.npz", "data guess"),
    "windows of a ts file that is not there": ("data make W/none.ts --out W/m.npz", "none.ts"),
    "windows of two kinds": ("data make DATA TABLE --out W/m.npz", "do not go together"),
    "windows without labels": ("data make UNLABELLED --out W/m.npz", "no column of labels"),
    "windows of another kind of file": ("data make TABLE --out W/m.csv", ".npz"),
    "windows into a folder": ("data make TABLE --out W", "folder"),
    "windows that are too long": ("data make TABLE --out W/m.npz --window-s 1000", "no window of 1000 s"),
    "windows of no length": ("data make TABLE --out W/m.npz --window-s 0", "window_s"),
    "a hop of nothing": ("data make TABLE --out W/m.npz --hop-s -1", "hop_s"),
    "a rate of a table": ("data make TABLE --out W/m.npz --rate-hz 5", "--rate-hz"),
    "a sensor that cannot be read": ("data make W/a.ts --out W/m.npz --sensor acc", "NAME=0,1,2"),
    "an unknown rule for lengths": ("data make W/a.ts --out W/m.npz --lengths stretch", "pad or cut"),
    "an unknown backbone": ("train --data DATA --out W/run --backbone resnet", "maestro"),
    "an unknown preset": ("train --data DATA --out W/run --preset huge", "small"),
    "an unknown attention": ("train --data DATA --out W/run --attention all", "sentry"),
    "an unknown elastic rule": ("train --data DATA --out W/run --elastic some", "static"),
    "an unknown normalisation": ("train --data DATA --out W/run --normalise no", "subject"),
    "no epochs": ("train --data DATA --out W/run --epochs 0", "epochs"),
    "a negative augmentation": ("train --data DATA --out W/run --augment -0.1", "augment"),
    "a negative seed": ("train --data DATA --out W/run --seed -1", "seed"),
    "an unknown device": ("train --data DATA --out W/run --device tpu", "cpu, cuda"),
    "an unknown device to answer on": ("evaluate RUN --data DATA --device tpu", "cpu, cuda"),
    "training into a file": ("train --data DATA --out FILE", "file.txt"),
    "training below a file": ("train --data DATA --out FILE/run", "file.txt"),
    "training into a folder of other things": ("train --data DATA --out W", "not empty"),
    "a fold that is no fraction": ("train --data DATA --out W/run --fold 1", "I/K"),
    "a fold that does not exist": ("train --data DATA --out W/run --fold 5/5", "fold"),
    "JSON into a folder": ("train --data DATA --out W/run --json W", "folder"),
    "JSON below a file": ("data list --json FILE/x.json", "file.txt"),
    "a missing run": ("evaluate W/none --data DATA", "none"),
    "a run that is not finished": ("evaluate UNFINISHED --data DATA", "repeat the same"),
    "a plan of a run that is not finished": ("plan UNFINISHED", "repeat the same"),
    "an export of a run that is not finished": ("export UNFINISHED --out W/b", "repeat the same"),
    "another recording": ("evaluate RUN --data wearable", "like its own data"),
    "an unknown sensor": ("evaluate RUN --data DATA --present ecg", "ecg"),
    "no sensor": ("evaluate RUN --data DATA --present ,", "no sensor"),
    "a ratio above one": ("evaluate RUN --data DATA --ratio 1.5", "1.5"),
    "a ratio that is no number": ("evaluate RUN --data DATA --ratio nan", "nan"),
    "a missing rate above one": ("evaluate RUN --data DATA --missing-rate 1.5", "1.5"),
    "an unknown scorer": ("evaluate RUN --data DATA --scorer luck", "taylor-oracle"),
    "an unknown protocol": ("evaluate RUN --data DATA --protocol some", "present"),
    "an unknown split": ("evaluate RUN --data DATA --split tset", "validation"),
    "a budget nobody meets": ("plan BUNDLE --macs 5", "the readout alone needs"),
    "negative memory": ("plan BUNDLE --memory-mb -1", "memory_mb"),
    "a budget without a profile": ("plan BUNDLE --latency-ms 5", "measured on the device"),
    "a profile that is a text": ("plan BUNDLE --latency-ms 5 --profile FILE", "file.txt"),
    "a profile for no time": ("profile BUNDLE --out W/p.json --seconds 0", "seconds"),
    "a stream from nowhere": ("run BUNDLE --source W/x.npz", "replay:FILE"),
    "a stream of a kind nobody knows": ("run BUNDLE --source udp://x", "mqtt"),
    "a stream of a missing file": ("run BUNDLE --source replay:W/none.npz", "none.npz"),
    "a stream of another recording": ("run BUNDLE --source replay:wearable", "wearable"),
    "a broker that is not there": ("run BUNDLE --source mqtt://127.0.0.1:9/x?timeout_s=1", "127.0.0.1"),
    "no source": ("run BUNDLE", "--source"),
    "a stream at a budget nobody meets": ("run BUNDLE --source replay:DATA --macs 1", "readout alone needs"),
    "a policy that means nothing": ("run BUNDLE --source replay:DATA --policy often", "policy"),
    "two meters": ("run BUNDLE --source replay:DATA --power auto --trace FILE", "one of them"),
    "a trace that is a text": ("run BUNDLE --source replay:DATA --trace FILE", "file.txt"),
    "events into a folder": ("run BUNDLE --source replay:DATA --events W", "folder"),
    "older files without a size": ("run BUNDLE --source replay:DATA --rotate-keep 3", "--rotate-mb as well"),
    "files of no size": ("run BUNDLE --source replay:DATA --rotate-mb 0", "0.001 to"),
    "files of no number": ("run BUNDLE --source replay:DATA --rotate-mb nan", "out of range"),
    "no older file": ("run BUNDLE --source replay:DATA --rotate-mb 1 --rotate-keep 0", "1 to 100"),
    "lines into each other": (
        "run BUNDLE --source replay:DATA --rotate-mb 1 --json W/e.1 --events W/e",
        "choose another file",
    ),
    "a place to serve that means nothing": ("run BUNDLE --source replay:DATA --serve 8080", "HOST:PORT"),
    "serving to others without a token": ("run BUNDLE --source replay:DATA --serve 0.0.0.0:0", "token"),
    "no hop": ("run BUNDLE --source replay:DATA --hop-s 0", "hop_s"),
    "a stream for a broken bundle": ("run BROKEN --source replay:DATA", "broken.bundle"),
    "a plan of a recording": ("plan DATA", "bundle"),
    "an unknown sensor in a plan": ("plan BUNDLE --present ecg", "ecg"),
    "pruning into a full folder": ("prune RUN --ratio 0.5 --out W", "not empty"),
    "pruning too much": ("prune RUN --macs 10 --out W/small", "readout alone needs"),
    "exporting into a folder": ("export RUN --out W", "folder"),
    "another scorer than a bundle has": (
        "evaluate BUNDLE --data DATA --scorer taylor",
        "the folder of `train`",
    ),
    "a bundle to score that is a text": ("evaluate FILE --data DATA", "file.txt"),
    "a missing bundle": ("predict W/none.bundle --data DATA", "none.bundle"),
    "a damaged bundle": ("predict BROKEN --data DATA", "broken.bundle"),
    "a bundle that is a text": ("predict FILE --data DATA", "file.txt"),
    "a recording of another model": ("predict BUNDLE --data wearable", "like its own data"),
    "an unknown sensor in predict": ("predict BUNDLE --data DATA --present ecg", "ecg"),
    "comparing a recording of another model": ("compare BUNDLE --data wearable", "like its own data"),
    "comparing on what was trained on": (
        "compare BUNDLE --data DATA --split train",
        "No such option: --split",
    ),
    "comparing with nobody": ("compare BUNDLE --data DATA --rival svm", "random forest"),
    "comparing too small a model": ("compare BUNDLE --data DATA --ratio 1.5", "ratio"),
    "comparing nothing": ("compare W/none.bundle --data DATA", "none.bundle"),
    "no threads": ("bench BUNDLE --threads 0", "--threads"),
    "an unknown engine": ("bench BUNDLE --engine tensorrt", "onnxruntime"),
    "a ratio above one in bench": ("bench BUNDLE --ratio 2", "ratio"),
    "a missing result": ("report W/none.json --out W/page.html", "none.json"),
    "a result that is no JSON": ("report FILE --out W/page.html", "file.txt"),
    "a demo of nothing": ("demo --data W/none.npz --out W/demo --quiet", "none.npz"),
    "a demo into a file": ("demo --out FILE", "file.txt"),
}


@pytest.mark.parametrize(("line", "said"), BAD.values(), ids=BAD)
def test_bad_input_is_answered_in_one_line_and_leaves_no_file(command, places, line, said):
    words = []
    for word in line.split():
        kind = "replay:" if word.startswith("replay:") else ""
        first, _, rest = word.removeprefix(kind).partition("/")
        found = places.get(first)
        words.append(word if found is None else f"{kind}{found / rest if rest else found}")
    before = sorted(places["W"].rglob("*"))
    done = command(*words)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1, done.err
    assert said in done.err
    assert sorted(places["W"].rglob("*")) == before


def test_a_missing_package_is_named_with_the_way_to_get_it(command, monkeypatch, run_folder):
    for name in [name for name in sys.modules if name.startswith("sentryfuse.model.pretrained")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    done = command("evaluate", run_folder, "--data", "wearable")
    assert done.code == 2
    assert "pip install 'sentryfuse[train]'" in done.err
    assert done.err.count("\n") == 1


def test_stopping_by_hand_ends_with_130_and_no_traceback(command, monkeypatch):
    def stop():
        raise KeyboardInterrupt

    monkeypatch.setattr("sentryfuse.data.list_data", stop)
    done = command("data", "list")
    assert (done.code, done.out) == (130, "")
    assert "Traceback" not in done.err


def test_a_mistake_of_ours_is_not_hidden(command, monkeypatch):
    def fail():
        raise RuntimeError("a bug")

    monkeypatch.setattr("sentryfuse.data.list_data", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        command("data", "list")


def test_numbers_that_json_does_not_know_become_null():
    assert plain({"a": [float("nan"), 1.5, (float("inf"),)]}) == {"a": [None, 1.5, [None]]}


def test_nothing_to_do_shows_the_help(command):
    done = command()
    assert done.code == 0
    assert "Usage: sentryfuse" in done.out
    assert cli.main(["--help"]) == 0
