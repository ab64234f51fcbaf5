"""What no bundle can hold is refused before it is trained; what it can is not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import sentryfuse as sf
from sentryfuse.bundle import check_exportable
from sentryfuse.data.windows import make_windows
from sentryfuse.errors import ConfigError
from sentryfuse.model.pretrained import SentryModel, bundle_name
from sentryfuse.types import Modality
from tests.tiny import CASES, tiny_model

TINY = {"d_model": 8, "n_heads": 2, "n_kv_heads": 1, "head_dim": 4, "d_ff": 8, "tokens": 2}


def wide(backbone: str, n: int, **more: int) -> SentryModel:
    modalities = [Modality(f"s{i}", 4.0, 8, ("x",)) for i in range(n)]
    return sf.create_model(backbone, modalities=modalities, classes=("a", "b"), options={**TINY, **more})


def check(model: SentryModel) -> None:
    shapes = {bundle_name(name): tuple(t.shape) for name, t in model.tensors().items()}
    check_exportable(model.layout, model.config.classes, shapes)


@pytest.mark.parametrize("case", CASES)
def test_every_model_that_is_exported_here_is_let_through(case):
    check(tiny_model(case))


@pytest.mark.parametrize(("backbone", "n"), [("maestro", 64), ("flexmoe", 64)])
def test_as_many_sensors_as_a_bundle_names_are_let_through(backbone, n):
    check(wide(backbone, n))


@pytest.mark.parametrize(
    ("backbone", "n", "said"),
    [
        ("maestro", 65, "layout.modalities"),
        pytest.param("mult", 45, "layout.steps", marks=pytest.mark.slow),
    ],
)
def test_too_many_sensors_are_refused_with_what_to_do(backbone, n, said):
    with pytest.raises(ConfigError, match=f"of {n} sensors could not be exported.*{said}.*use fewer sensors"):
        check(wide(backbone, n))


def test_training_refuses_before_it_begins():
    model = wide("maestro", 65)
    rng = torch.Generator().manual_seed(0)
    raw = {m.name: torch.randn(6, 8, 1, generator=rng).numpy() for m in model.config.modalities}
    windows = make_windows(
        "wide",
        model.config.modalities,
        raw=raw,
        y=[0, 1] * 3,
        classes=("a", "b"),
        subject=[0, 0, 1, 1, 2, 2],
    )
    seen = []
    with pytest.raises(ConfigError, match="could not be exported once trained"):
        sf.train(model, windows, callbacks=[lambda row, _: seen.append(row)])
    assert not seen


def test_a_kind_of_step_that_nobody_can_write_is_named():
    model = tiny_model()
    steps = tuple(replace(step, op="mystery") if step.name == "join" else step for step in model.layout.steps)
    with pytest.raises(ConfigError, match=r"kind mystery.*sentryfuse\.graph\.emits"):
        check_exportable(replace(model.layout, steps=steps), ("a", "b"), {})


@pytest.mark.slow
def test_forty_sensors_in_pairs_are_exported(tmp_path):
    model = wide("mult", 40, pair_heads=2, pair_ff=8)
    checked = sf.export_bundle(model, tmp_path / "forty.bundle")
    assert checked["plans"] >= 10
    assert len(sf.load_bundle(tmp_path / "forty.bundle").names) == 40
