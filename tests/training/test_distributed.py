"""Several processes train what one trains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sentryfuse.errors import ConfigError
from sentryfuse.training.distributed import ProcessGroup, check_device
from tests.training.together import CASES, comparable, results

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 3
TIMES = ("seconds", "cpu_seconds")


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """Folder with the weights and history of every process."""
    folder = tmp_path_factory.mktemp("together")
    script = Path(__file__).with_name("together.py")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(PROCESSES)]
    line = [sys.executable, *torchrun, str(script), str(folder)]
    place = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, cwd=ROOT, env=place, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CASES, "tuned", "resumed"])
def test_several_processes_train_what_one_trains(name, together, tmp_path):
    model, history = results(tmp_path)[name]()
    files = [together / f"{name}.{rank}" for rank in range(PROCESSES)]
    weights = [load_file(f"{file}.safetensors") for file in files]
    for other in weights[1:]:
        assert all(torch.equal(t, weights[0][key]) for key, t in other.items()), "the processes differ"
    for key, tensor in comparable(model).items():
        torch.testing.assert_close(weights[0][key], tensor, atol=1e-4, rtol=0, msg=key)
    told = [json.loads(Path(f"{file}.json").read_text(encoding="utf-8")) for file in files]
    for rows in told:
        assert len(rows) == len(history)
        for row, own in zip(rows, history, strict=True):
            assert row.keys() == own.keys()
            for key in row.keys() - set(TIMES):
                assert row[key] == pytest.approx(own[key], abs=1e-4), key
    assert not (together / "state.safetensors").exists()


@pytest.mark.slow
def test_processes_agree_on_the_running_statistics_of_an_encoder(together):
    first, *others = (load_file(together / f"normed.{rank}.safetensors") for rank in range(PROCESSES))
    assert any("running_var" in name for name in first)
    for other in others:
        assert all(torch.equal(t, first[name]) for name, t in other.items())


@pytest.mark.parametrize("n", [1, 2, 5, 64])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_shares_make_up_the_batch_and_nobody_has_nothing_to_do(n, size):
    group = ProcessGroup(torch.device("cpu"))
    rows: list[int] = []
    parts: list[float] = []
    for group.rank in range(size):
        group.size = size
        own, part = group.share(n)
        assert len(range(n)[own]) >= 1
        assert part * n == pytest.approx(len(range(n)[own]) if part else 0)
        rows += range(n)[own] if part else ()
        parts.append(part)
    assert rows == list(range(n))
    assert sum(parts) == pytest.approx(1)


def test_one_process_alone_changes_nothing():
    group = ProcessGroup(torch.device("cpu"))
    x = torch.randn(3)
    assert group.leads
    assert group.sum_tensors([x])[0] is x
    assert group.batch_mean(1.0)(x) is x
    assert group.broadcast(b"words") == b"words"
    before = torch.get_rng_state()
    with group.own_rng(0, 1):
        assert torch.equal(torch.get_rng_state(), before)


def test_chance_inside_the_model_is_every_processs_own_and_leaves_the_common_one():
    group, drawn = ProcessGroup(torch.device("cpu")), []
    group.size = 2
    before = torch.get_rng_state()
    for group.rank, step in ((0, 0), (1, 0), (0, 1), (0, 0)):
        with group.own_rng(3, step):
            drawn.append(float(torch.rand(())))
    assert torch.equal(torch.get_rng_state(), before)
    assert drawn[0] == drawn[3]
    assert len(set(drawn)) == 3


def test_devices_have_names():
    assert check_device("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match="choose one of cpu, cuda"):
        check_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="use --device cpu"):
            check_device("cuda")
