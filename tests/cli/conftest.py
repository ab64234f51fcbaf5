"""One small training and one export, made through the command line and shared by all its tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from sentryfuse.cli import main
from sentryfuse.data import make_windows, save_windows, synthetic_wearable
from tests.few_trees import few_trees

SENSORS = ("wrist_acc", "chest_acc")  # of one shape, so that they share an exported graph


@dataclass(frozen=True)
class Done:
    """What one command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def write_recording(path: Path) -> Path:
    """Two sensors of the synthetic set, five people, 40 windows each, cut to one second."""
    whole = synthetic_wearable(n_people=5, windows_per_person=40)
    modalities = [m for m in whole.modalities if m.name in SENSORS]
    short = [type(m)(m.name, m.rate_hz, 32, m.channels) for m in modalities]
    save_windows(
        path,
        make_windows(
            "tiny",
            short,
            raw={name: whole.raw[name][:, :32] for name in SENSORS},
            scale={name: whole.scale[name] for name in SENSORS},
            y=whole.y,
            classes=whole.classes,
            subject=whole.subject,
            split=whole.split,
            licence="Apache-2.0",
        ),
    )
    return path


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Threads waiting for each other would take longer than these models, on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", autouse=True)
def small_forests() -> Iterator[None]:
    """Given back after each file, so that tests of other rooms have whole ones."""
    with few_trees():
        yield


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run a command in this process, as the installed script does."""

    def run(*argv: object) -> Done:
        capfd.readouterr()
        code = main([str(word) for word in argv])
        return Done(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(tmp_path_factory.mktemp("data") / "tiny.npz")


@pytest.fixture(scope="session")
def run_folder(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    made = ["--data", recording, "--out", folder, "--epochs", 1, "--seed", 3]
    # by the population: a stream knows less of a person than a recording that is there as a whole
    made += ["--normalise", "train", "--quiet"]
    with few_trees():  # made before anything of a module
        assert main(["train", *map(str, made)]) == 0
    return folder


@pytest.fixture(scope="session")
def bundle(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "model.bundle"
    facts = path.with_name("export.json")
    assert main(["export", str(run_folder), "--out", str(path), "--json", str(facts), "--quiet"]) == 0
    return path
