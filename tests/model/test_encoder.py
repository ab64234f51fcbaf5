"""An encoder of one's own: traced or refused by name, trained, saved without its source."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import sentryfuse as sf
from sentryfuse.engine import Session
from sentryfuse.errors import CheckpointError, ConfigError
from sentryfuse.graph import operators as written
from sentryfuse.model import Encoder
from sentryfuse.model import operators as run
from sentryfuse.model.encoder import EncoderTokens, ProgramModule, TracedEncoder
from sentryfuse.model.tracing import known, trace
from sentryfuse.planning.operators import OPERATORS
from sentryfuse.planning.program import Program
from sentryfuse.types import Modality
from tests.model.encoders import D, Lambda, Residual, encoder
from tests.tiny import BACKBONES, CASES, tiny_model, tiny_windows

ACC = Modality("acc", 16.0, 64, ("x", "y", "z"))
SENTENCE = r"^the encoder of acc"


def refused(module, match):
    with pytest.raises(ConfigError, match=SENTENCE + ".*" + match):
        trace(module, ACC, D)


class Thresholds(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.threshold = nn.Linear(3, D), nn.Threshold(0.1, 0.0)

    def forward(self, x):
        return self.threshold(self.first(x))


def test_every_operator_is_known_everywhere():
    assert OPERATORS.keys() == run.known() == written.known()
    assert len(known()) > 100


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda y: y.cumsum(1), "aten.cumsum cannot be written on a device"),
        (lambda y: torch.sort(y, 1)[0], "aten.sort cannot"),
        (lambda y: y.ceil(), "aten.ceil cannot"),
        (lambda y: F.max_pool1d(y, 1, ceil_mode=True), "aten.max_pool1d is known without ceil_mode"),
        (lambda y: y.double().float(), "aten.to makes torch.float64"),
        (lambda y: y.max(1, keepdim=True)[1] * y, "aten.mul reads where a largest"),
        (lambda y: y - y.mean(0), "aten.mean works along the windows"),
        (lambda y: y * y.shape[0], "aten.mul counts windows"),
        (lambda y: y[:1] + y, "aten.slice works along the windows"),
        (lambda y: y[0] + y, "aten.select picks one of the windows"),
        (lambda y: F.batch_norm(y, None, None, training=True), "aten.batch_norm needs running statistics"),
    ],
)
def test_what_no_device_writes_names_itself_and_the_line_of_its_forward(function, why):
    refused(Lambda(3, function), rf"{why}.* \(encoders.py, line \d+: return self.last\(self.function")


def test_an_operator_inside_a_layer_of_torchs_names_the_line_that_calls_it():
    line = r"\(test_encoder.py, line \d+: return self.threshold"
    refused(Thresholds(), "aten.threshold cannot be written on a device.*" + line)


@pytest.mark.parametrize(
    ("module", "match"),
    [
        (nn.Linear(4, D), r"cannot run on windows \(B, 64, 3\)"),
        (nn.Linear(3, 5), r"makes \(B, 64, 5\) of a window, where \(B, L, 16\) is needed"),
        (nn.Flatten(), r"makes \(3, 192\) of 3 windows; it must make tokens"),
        (Lambda(3, lambda y: y.reshape(3, -1, D)), "fixes the number of windows"),
        (Lambda(3, lambda y: y + torch.zeros(len(y), 1, 1)), "fixes the number of windows"),
        (Lambda(3, lambda y: y if y.sum() > 0 else -y), "cannot be traced: .*data-dependent.*, line"),
        (Lambda(3, lambda y: y.transpose(0, 1).reshape(y.shape)), "mixes windows"),
        (Lambda(3, lambda y: (y * 0).log()), "numbers that are not finite"),
        ("a module", "is of the type str; give a torch module"),
        (
            Lambda(3, lambda y: torch.einsum("btd,bse->bte", y, y)),
            "aten.einsum sums over what one value alone",
        ),
        (
            Lambda(3, lambda y: torch.einsum("btt->bt", y[:, :D])[..., None] + y[:, :D]),
            "aten.einsum is known",
        ),
    ],
    ids=[
        "channels",
        "width",
        "flat",
        "fixed",
        "len",
        "branch",
        "mixed",
        "infinite",
        "text",
        "sums",
        "diagonal",
    ],
)
def test_what_is_no_encoder_of_a_sensor_is_refused(module, match):
    refused(module, match)


def test_a_change_in_place_of_what_is_read_under_another_name_is_refused():
    def changes(y):
        part = y[:, 1:]
        y += 1
        return torch.cat([part, y], 1)

    refused(Lambda(3, changes), "aten.add_ changes in place what is read later under another name")


def test_an_encoder_of_a_sensor_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="encoder for ecg, and the sensors are acc, temp, age"):
        tiny_model().with_encoders({"ecg": nn.Linear(3, D)})


def mine(seed=0):
    torch.manual_seed(seed)
    return Residual(64, 3)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("case", BACKBONES)
def test_it_trains_saves_loads_prunes_and_predicts_without_its_source(case, tmp_path):
    backbone, preset, options, _ = CASES[case]
    windows = tiny_windows()
    model = sf.create_model(
        backbone, modalities=windows.modalities, classes=windows.classes, preset=preset, options=options,
        encoders={"acc": mine(), "temp": encoder("cnn", 13, 1)},
    )  # fmt: skip
    before = {name: t.clone() for name, t in model.tensors().items()}
    sf.train(model, windows, settings=sf.TrainSettings(epochs=2, readout="none"))
    own = "".join(name for name, t in model.tensors().items() if not torch.equal(t, before[name]))
    assert "own.0_stem_weight" in own
    assert "running_mean" in own
    assert not any("num_batches" in name for name in before)

    model.save_pretrained(tmp_path / "model")
    again = sf.from_pretrained(tmp_path / "model")
    batch = windows.batch(np.arange(6))
    inputs = {n: torch.from_numpy(x) for n, x in batch.items()}
    with torch.no_grad():
        assert torch.equal(again(inputs), model(inputs))
    assert again.layout == model.layout
    assert {p.name for p in (tmp_path / "model").iterdir()} == {
        "README.md", "config.json", "model.safetensors",
    }  # fmt: skip

    plan = sf.plan(again, ("acc", "temp"), sf.Budget(ratio=0.6))
    small = sf.prune(again, plan)
    sf.export_bundle(again, tmp_path / "own.bundle")
    bundle = sf.load_bundle(tmp_path / "own.bundle")
    with torch.no_grad():
        want = small({n: inputs[n] for n in small.names}).softmax(1).numpy()
    got = Session(bundle, bundle.plan(("acc", "temp"), plan.budget)).run(batch)
    np.testing.assert_allclose(got, want, atol=1e-4)
    assert set(sf.prune(again, sf.plan(again, ("temp", "age"))).config.encoders) == {"temp"}
    # a loaded model can be trained again, batch norms and all
    sf.train(again, windows, settings=sf.TrainSettings(epochs=1, readout="none"))


def test_a_frozen_encoder_stays_as_it_is_and_what_follows_it_learns(tmp_path):
    body = encoder("cnn", 64, 3).requires_grad_(False)
    module = nn.Sequential(body, nn.Linear(D, D))
    windows = tiny_windows()
    model = sf.create_model(
        "maestro", modalities=windows.modalities, classes=windows.classes, options=CASES["small"][2],
        encoders={"acc": module},
    )  # fmt: skip
    roles = {w.name: w.role for w in model.config.encoders["acc"].program.weights}
    assert set(roles.values()) == {"trained", "frozen", "measured"}
    before = {name: t.clone() for name, t in model.tensors().items() if ".own." in name}
    sf.train(model, windows, settings=sf.TrainSettings(epochs=1, readout="none"))
    for name, value in before.items():
        changed = not torch.equal(value, model.tensors()[name])
        assert changed == (roles[name.split(".own.")[1]] == "trained"), name
    model.save_pretrained(tmp_path / "model")
    again = sf.from_pretrained(tmp_path / "model").backbone.embedding_of("acc")
    assert isinstance(again, EncoderTokens)
    for name, parameter in again.own.named_parameters():
        assert parameter.requires_grad == (roles[name] == "trained")


def test_in_training_a_batch_norm_sees_the_batch_and_dropout_drops():
    module = nn.Sequential(nn.Linear(3, D), nn.Dropout(0.5), Normed())
    _, own = trace(module, ACC, D)
    x = torch.randn(8, 64, 3)
    mean = {n: b.clone() for n, b in own.named_buffers()}
    module.train()
    own.train()
    torch.manual_seed(0)
    want = module(x)
    torch.manual_seed(0)
    torch.testing.assert_close(own(x), want)
    assert not any(torch.equal(b, mean[n]) for n, b in own.named_buffers())
    module.eval()
    torch.testing.assert_close(own.eval()(x), module(x))
    own.train()(x[:1, :1])  # one number of each channel has no variance: running statistics serve


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(D)

    def forward(self, x):
        return self.norm(x.transpose(1, 2)).transpose(1, 2)


def test_an_encoder_that_learns_nothing_runs_as_in_inference_while_others_train():
    module = nn.Sequential(nn.Linear(3, D), nn.Dropout(0.5), Normed()).requires_grad_(False)
    _, own = trace(module, ACC, D)
    x = torch.randn(4, 64, 3)
    with torch.no_grad():
        torch.testing.assert_close(own.train()(x), module.eval()(x))


def test_weights_that_are_shared_are_held_once():
    layer = nn.Linear(D, D)
    traced, own = trace(nn.Sequential(nn.Linear(3, D), layer, layer), ACC, D)
    assert [w.shape for w in traced.program.weights] == [(D, 3), (D,), (D, D), (D,)]
    assert sum(p.numel() for p in own.parameters()) == D * 3 + D + D * D + D


def test_a_program_survives_json():
    traced, own = trace(encoder("attends", 64, 3), ACC, D)
    again = Program.from_json(json.loads(json.dumps(traced.program.to_json())))
    assert again == traced.program
    other = ProgramModule(again)
    other.load_state_dict(own.state_dict())
    x = torch.randn(2, 64, 3)
    with torch.no_grad():
        assert torch.equal(other.eval()(x), own.eval()(x))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda e: e.update(physical=1), "physical is true or false"),
        (lambda e: e.update(module="os.system"), "has a program and the word physical"),
        (lambda e: e["program"].pop("weights"), "weights: Field required"),
        (lambda e: e["program"]["nodes"][0].update(op="gru"), "node 0 of the operator gru"),
        (lambda e: e["program"]["nodes"][0].update(reads=["y"]), "reads y, which nothing"),
        (lambda e: e["program"]["nodes"].clear(), "at least 1 item"),
        (lambda e: e["program"]["weights"][0].update(name="0_a.b"), "is_weight"),
    ],
)
def test_a_configuration_with_another_program_is_refused(change, match, tmp_path):
    tiny_model().with_encoders({"acc": nn.Linear(3, D)}).save_pretrained(tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    config = json.loads(file.read_text())
    change(config["encoders"]["acc"])
    file.write_text(json.dumps(config))
    with pytest.raises((CheckpointError, ConfigError), match=match):
        sf.from_pretrained(tmp_path / "model")


def test_models_without_an_encoder_are_written_as_before():
    model = tiny_model()
    assert "encoders" not in model.config.to_json()
    assert all("program" not in step for step in model.layout.to_json()["steps"])


def test_physical_windows_are_given_as_they_were_recorded():
    module = nn.Linear(3, D)
    model = tiny_model().with_encoders({"acc": Encoder(module, physical=True)})
    assert model.config.encoders["acc"] == TracedEncoder(model.config.encoders["acc"].program, True)
    embed = model.backbone.embedding_of("acc")
    x = 1000 + torch.randn(2, 64, 3)
    with torch.no_grad():
        torch.testing.assert_close(embed(x, at=None), module(x) + embed.position)
