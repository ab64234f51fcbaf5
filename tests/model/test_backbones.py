"""What is particular to one backbone; what holds for all is in tests/laws and test_model.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sentryfuse.errors import ConfigError
from sentryfuse.model.call import Call
from sentryfuse.model.feedforward import Experts, Routing
from sentryfuse.model.flexmoe import ROUTER_WEIGHT, expert_of
from sentryfuse.model.pretrained import SentryModel, create_model
from sentryfuse.planning.cost import published_macs
from sentryfuse.planning.layout import Span
from sentryfuse.pruning.cut import prune, selection
from sentryfuse.types import Modality
from tests.laws.hand_plans import any_plan, full_plan, hand_plan
from tests.tiny import CLASSES, MODALITIES, SENSOR_SETS, tiny_batch, tiny_model

# MAESTRO on WESAD: ten streams of 8 s at 32 Hz, words of two samples
WESAD = [
    Modality(name, 32.0, 256, tuple("xyz"[:channels]))
    for name, channels in (
        ("chest_acc", 3), ("chest_ecg", 1), ("chest_emg", 1), ("chest_resp", 1), ("chest_eda", 1),
        ("chest_temp", 1), ("wrist_acc", 3), ("wrist_bvp", 1), ("wrist_eda", 1), ("wrist_temp", 1),
    )
]  # fmt: skip


def inside(model: SentryModel) -> Any:
    """The backbone, whose submodules have no common type."""
    return model.backbone


def wesad_model(**changes) -> SentryModel:
    return create_model("maestro", modalities=WESAD, classes=CLASSES, preset="paper", **changes)


def published(model: SentryModel) -> float:
    return round(published_macs(model.layout) / 1e6, 2)


def test_the_paper_preset_is_the_published_architecture():
    reference = wesad_model(options={"n_kv_heads": 8})
    assert sum(p.numel() for p in reference.backbone.parameters()) == 1_387_239
    assert published(reference) == 99.65
    assert published(wesad_model(options={"n_kv_heads": 8}, attention="dense")) == 130.27


def test_grouped_queries_save_what_was_derived_for_them():
    assert published(wesad_model(options={"n_kv_heads": 2})) == 84.91
    assert published(wesad_model()) == 82.45


def test_the_joint_lengths_of_the_paper_preset_are_those_published():
    spans = wesad_model().layout.spans(None)
    assert [spans["fusion.0"], spans["fusion.1"]] == [Span(320, 160, 320), Span(160, 80, 160)]


def route_by_hand(experts: Experts, x: torch.Tensor) -> torch.Tensor:
    """One token and one expert at a time."""
    result = torch.zeros_like(x)
    groups = np.array(experts.block.groups)
    for t, token in enumerate(x):
        logits = experts.router.weight @ token + experts.router.bias
        chosen = logits.argsort(descending=True)[: experts.routing.active]
        worth = logits[chosen]
        if experts.routing.weighting == "softmax":
            worth = worth.softmax(0)
        for e, share in zip(chosen.tolist(), worth, strict=True):
            own = np.flatnonzero(groups == e)
            hidden = experts.up.weight[own] @ token + experts.up.bias[own]
            act = torch.relu if experts.routing.activation == "relu" else torch.nn.functional.gelu
            result[t] += share * (experts.down.weight[:, own] @ act(hidden) + experts.bias[e])
    return result


@pytest.mark.parametrize("routing", [Routing(), Routing(2, "softmax", "gelu"), Routing(3, "raw")], ids=str)
@torch.no_grad()
def test_a_mixture_is_the_sum_of_its_active_experts(routing):
    torch.manual_seed(0)
    experts = Experts("moe", 6, groups=(2, 0, 0, 1, 1, 1, 2), routing=routing).double()
    x = torch.randn(9, 6, dtype=torch.float64)
    torch.testing.assert_close(experts(x), route_by_hand(experts, x))


@torch.no_grad()
def test_a_full_expert_answers_the_tokens_that_want_it_most():
    torch.manual_seed(0)
    free, full = (Routing(2, "softmax", "gelu", capacity) for capacity in (0.0, 1.0))
    groups = (2, 0, 0, 1, 1, 1, 2)
    experts = Experts("moe", 6, groups=groups, routing=full).double()
    x = torch.randn(2 * 9, 6, dtype=torch.float64)
    logits = experts.router(x)
    chosen = logits >= logits.topk(2, 1).values[:, -1:]
    worth = torch.where(chosen, logits, -torch.inf).softmax(1)
    want = torch.zeros_like(x)
    for window in (range(9), range(9, 18)):
        for e in range(3):
            asking = sorted((t for t in window if chosen[t, e]), key=lambda t: -float(logits[t, e]))
            own = np.flatnonzero(np.array(groups) == e)
            for t in asking[: 9 * 2 // 3]:
                hidden = torch.nn.functional.gelu(experts.up.weight[own] @ x[t] + experts.up.bias[own])
                want[t] += worth[t, e] * (experts.down.weight[:, own] @ hidden + experts.bias[e])
    torch.testing.assert_close(experts(x, 2), want)
    everyone = Experts("moe", 6, groups=groups, routing=free).double()
    everyone.load_state_dict(experts.state_dict())
    assert not torch.allclose(everyone(x, 2), want)
    roomy = Experts("moe", 6, groups=groups, routing=Routing(2, "softmax", "gelu", 2.0)).double()
    roomy.load_state_dict(experts.state_dict())
    torch.testing.assert_close(roomy(x, 2), everyone(x, 2))


@pytest.mark.parametrize("groups", [(), (1, 1), (0, 2)])
def test_a_mixture_with_holes_is_refused(groups):
    with pytest.raises(ConfigError, match="without holes"):
        Experts("moe", 6, groups=groups, routing=Routing())


def test_an_expert_without_channels_leaves_the_router():
    model = tiny_model("flexmoe")
    block = model.layout.blocks["layers.0.ffn"]
    kept = dict(full_plan(model.layout, SENSOR_SETS[0]).kept)
    kept[block.name] = tuple(unit for unit in range(block.units) if block.groups[unit] != 1)
    small = prune(model, hand_plan(model.layout, SENSOR_SETS[0], kept))
    mixture = inside(small).layers[0].ffn
    assert mixture.router.out_features == max(block.groups)
    batch = {name: torch.from_numpy(x) for name, x in tiny_batch().items()}
    with torch.no_grad():
        assert (small(batch) - model(batch)).abs().max() > 1e-4


def test_a_large_bank_costs_thousands_of_weights_not_billions():
    many = [Modality(f"s{i}", 1.0, 32, ("x",)) for i in range(17)]
    model = create_model("flexmoe", modalities=many, classes=CLASSES)
    bank = sum(p.numel() for p in inside(model).bank.parameters())
    assert bank < 50_000


@torch.no_grad()
def test_what_stands_for_an_absent_sensor_depends_on_which_others_are_there():
    model = tiny_model("flexmoe")
    bank = inside(model).bank["age"]
    one, two = (bank(at=Call(1, torch.device("cpu"), parts)) for parts in ([64, 0, 0], [64, 13, 0]))
    assert (one - two).abs().max() > 1e-3


def test_every_set_of_sensors_has_an_expert_and_always_the_same_one():
    for present in SENSOR_SETS[1:]:
        chosen = expert_of(present, 4)
        assert 1 <= chosen < 4
        assert chosen == expert_of(tuple(reversed(present)), 4)
    assert expert_of(("never", "seen"), 2) == 1


def test_router_losses_fall_when_routing_is_balanced_and_goes_where_it_should():
    model = tiny_model("flexmoe")
    backbone = inside(model)
    assert backbone.router_loss(SENSOR_SETS[0]) is None, "nothing was routed yet"
    mixture = inside(model).layers[0].ffn
    mixture.logits = torch.tensor([[9.0, 0, 0, 0], [9.0, 0, 0, 0]])
    lopsided = backbone.router_loss(SENSOR_SETS[0])
    mixture.logits = torch.zeros(2, 4) + 1e-3 * torch.eye(4)[:2]
    even = backbone.router_loss(SENSOR_SETS[0])
    assert lopsided > even >= 0
    here = expert_of(("acc",), 4)
    losses = []
    for expert in range(4):
        mixture.logits = 5.0 * torch.eye(4)[[expert, expert]]
        losses.append(float(backbone.router_loss(("acc",))))
    others = [loss for expert, loss in enumerate(losses) if expert not in (0, here)]
    assert losses[here] < min(others)
    assert losses[here] < ROUTER_WEIGHT * 10


def test_pairs_of_absent_sensors_do_not_run():
    layout = tiny_model("mult").layout
    names = [step.name for step in layout.route(("acc", "age"))]
    assert {"pair.acc.age.0", "pair.age.acc.1"} <= set(names)
    assert not any("temp" in name and not name.startswith("bank.") for name in names)
    alone = [step.name for step in layout.route(("temp",))]
    assert not any(name.startswith("pair.") for name in alone)
    assert not any(name == f"pair.{m.name}.{m.name}.0" for m in MODALITIES for name in names)


@pytest.mark.parametrize("case", ["flexmoe", "mult"])
@torch.no_grad()
def test_a_model_cut_for_some_sensors_still_knows_the_ones_that_are_gone(case):
    model = tiny_model(case)
    batch = {name: torch.from_numpy(x) for name, x in tiny_batch().items()}
    small = prune(model, any_plan(model.layout, ("acc", "age"), seed=3))
    smaller = prune(small, any_plan(small.layout, ("age",), seed=4))
    plan = any_plan(small.layout, ("age",), seed=4)
    torch.testing.assert_close(smaller(batch), small(batch, ("age",), select=selection(plan)))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("flexmoe", {"active": 5}, "5 of 4 experts"),
        ("flexmoe", {"capacity": -1}, "capacity must be 0 or a positive number"),
        ("flexmoe", {"bank_tokens": 0}, "bank_tokens must be at least 1"),
        ("mult", {"pair_layers": 0}, "pair_layers must be at least 1"),
        ("mult", {"pair_heads": 3, "pair_kv_heads": 2}, "divides n_heads"),
        ("maestro", {"dropout": 1.0}, "dropout"),
    ],
)
def test_sizes_that_cannot_be_built_are_refused(name, options, words):
    with pytest.raises(ConfigError, match=words):
        create_model(name, modalities=MODALITIES, classes=CLASSES, options=options)


@pytest.mark.parametrize("widths", [{"layers.0.ffn": 64}, {"layers.1.ffn": (0, 1)}, {"layers.0.attn": 4}])
def test_widths_of_another_kind_are_refused(widths):
    with pytest.raises(ConfigError, match="do not fit its kind"):
        create_model("flexmoe", modalities=MODALITIES, classes=CLASSES, widths=widths)
