"""The real program: killed at any moment it goes on, and who does the work makes no difference."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sentryfuse.study.design import StudyDesign
from sentryfuse.study.executors import LocalExecutor
from sentryfuse.study.jobs import trainings
from sentryfuse.study.tasks import Task
from tests.study.conftest import tiny_study

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def files(study, tmp_path):
    """Two trainings of two epochs, as words of a command."""
    design = tmp_path / "design.json"
    design.write_text(json.dumps(tiny_study(trainings=["gate", "plain"], epochs=2)))
    words = [
        sys.executable,
        "-m",
        "sentryfuse",
        "study",
        "--design",
        design,
        "--data",
        study.data,
        "--jobs",
        1,
    ]
    return tmp_path, [str(word) for word in words]


def run(words, **options):
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, **options)


def lines(out):
    return sorted((out / "lines.jsonl").read_text(encoding="utf-8").splitlines())


def workers():
    """Processes that were spawned to do jobs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += [path.parent.name] if b"multiprocessing.spawn" in path.read_bytes() else []
        except OSError:
            continue  # it ended meanwhile
    return {*found}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_killed_while_training_and_while_scoring_it_leaves_the_same_lines(files):
    folder, words = files
    assert run([*words, "--out", folder / "whole"]).returncode == 0
    out = folder / "killed"
    moments = (
        lambda: any(out.glob("runs/*gate*/state.safetensors")),
        lambda: (out / "lines.jsonl").is_file(),
        lambda: any(out.glob("runs/*plain*/state.safetensors")),
    )
    before = workers()
    for moment in moments:
        process = subprocess.Popen([*words, "--out", out], cwd=ROOT, stderr=subprocess.DEVNULL)
        while not moment() and process.poll() is None:
            time.sleep(0.005)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        time.sleep(1.0)
        assert workers() <= before, "a worker outlived the one who asked"
    assert run([*words, "--out", out]).returncode == 0
    assert lines(out) == lines(folder / "whole")
    assert len(lines(out)) == 20


@pytest.mark.slow
def test_stopped_by_hand_it_ends_at_once_and_goes_on(files):
    folder, words = files
    process = subprocess.Popen([*words, "--out", folder / "out"], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not (folder / "out" / "lines.jsonl").is_file():
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert run([*words, "--out", folder / "out"]).returncode == 0
    assert len(lines(folder / "out")) == 20


@pytest.mark.slow
def test_ray_and_processes_give_the_same_lines(files):
    pytest.importorskip("ray")
    folder, words = files
    assert run([*words, "--out", folder / "local"]).returncode == 0
    done = run([*words, "--out", folder / "ray", "--engine", "ray"])
    assert done.returncode == 0, done.stderr
    assert lines(folder / "ray") == lines(folder / "local")


@pytest.mark.slow
def test_workers_of_ray_run_no_module_of_the_current_folder(files):
    pytest.importorskip("ray")
    folder, words = files
    (folder / "safetensors.py").write_text("from pathlib import Path\n\nPath(__file__ + '.ran').touch()\n")
    words = [words[0], "-P", *words[1:], "--out", str(folder / "ray"), "--engine", "ray"]
    own = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(words, cwd=folder, capture_output=True, check=False, env=own)
    assert lines(folder / "ray")  # some of it ran, whatever else is in the folder of data
    assert not (folder / "safetensors.py.ran").exists()


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_one_sentence(files):
    pytest.importorskip("ray")
    folder, words = files
    done = run([*words, "--out", folder / "ray", "--engine", "ray", "--address", "127.0.0.1:9"])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "127.0.0.1:9" in done.stderr


def test_a_process_that_dies_loses_its_job_only(study, tmp_path):
    training = trainings(StudyDesign.from_json(tiny_study()), {})[0]
    shutil.copytree(study.out / "runs" / training.name, tmp_path / training.name)  # to be found finished
    engine = LocalExecutor(1)
    try:
        engine.submit(Task(training, (), "tiny.npz", study.data, tmp_path))
        os.kill(engine._workers[0].process.pid or 0, signal.SIGKILL)
        task, outcome = engine.wait()
        assert task.training == training
        assert "signal 9" in (outcome.error or "")
        engine.submit(task)
        _, outcome = engine.wait()
        assert (outcome.error, outcome.facts["found"]) == (None, True)
        idle = engine._workers[0].process
        os.kill(idle.pid or 0, signal.SIGKILL)
        idle.join()
        engine.submit(task)
        assert engine.wait()[1].error is None
    finally:
        engine.close()
