"""A repaired model is an ordinary smaller model that says more of what the whole one said."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from sentryfuse.errors import ConfigError
from sentryfuse.model.pretrained import from_pretrained
from sentryfuse.pruning.cut import prune
from sentryfuse.study.repair import REPAIRS, Moments, collect_moments, compensate
from sentryfuse.study.repair.moments import ColumnMoments, group_columns
from sentryfuse.study.repair.repair import Loss, grow_kept, repair_block
from tests.laws.hand_plans import any_plan, full_plan, hand_plan
from tests.tiny import CASES, NAMES, tiny_batch, tiny_model, tiny_windows, uneven_widths

WINDOWS = tiny_windows(60)
TINY = 1e-9  # damping that leaves exact equations exact


@functools.cache
def model_of(case, uneven=False):
    return tiny_model(case, widths=uneven_widths(case) if uneven else None)


@functools.cache
def moments_of(case, uneven=False):
    return collect_moments(model_of(case, uneven), WINDOWS)


def answer(model, present=NAMES):
    batch = {name: torch.from_numpy(x) for name, x in tiny_batch(8, seed=5).items()}
    with torch.no_grad():
        return model(batch, present)


@pytest.mark.parametrize("repair", REPAIRS)
@pytest.mark.parametrize("case", CASES)
def test_where_nothing_goes_nothing_changes(case, repair):
    model = model_of(case, True)
    same = compensate(model, full_plan(model.layout, NAMES), moments_of(case, True), repair)
    assert torch.equal(answer(same), answer(model))


@pytest.mark.parametrize("case", CASES)
def test_none_is_a_plain_cut(case):
    model = model_of(case)
    plan = any_plan(model.layout, NAMES, seed=2)
    cut, none = prune(model, plan).tensors(), compensate(model, plan, moments_of(case), "none").tensors()
    assert all(torch.equal(cut[name], none[name]) for name in cut | none)


@pytest.mark.parametrize("repair", [name for name in REPAIRS if name != "none"])
@pytest.mark.parametrize("case", CASES)
def test_only_last_products_change_and_the_rest_is_the_plain_cut(case, repair):
    model = model_of(case, True)
    before = {name: t.clone() for name, t in model.tensors().items()}
    plan = any_plan(model.layout, NAMES, seed=3)
    cut, made = (
        prune(model, plan).tensors(),
        compensate(model, plan, moments_of(case, True), repair).tensors(),
    )
    changed = {name for name in cut if not torch.equal(cut[name], made[name])}
    last = ("o.weight", "o.bias", "down.weight", "down.bias", "ffn.bias")
    assert changed
    assert all(name.endswith(last) for name in changed)
    assert all(torch.isfinite(t).all() for t in made.values())
    assert all(torch.equal(t, before[name]) for name, t in model.tensors().items())


@pytest.mark.parametrize("case", ["small", "taken", "mult"])
def test_a_repaired_model_is_saved_loaded_and_pruned_again(case, tmp_path):
    model = model_of(case, True)
    present = ("acc", "temp")
    small = compensate(model, any_plan(model.layout, present, seed=1), moments_of(case, True), "ridge")
    small.save_pretrained(tmp_path / "small")
    back = from_pretrained(tmp_path / "small")
    assert torch.equal(answer(back, present), answer(small, present))
    assert {type(m) for m in small.modules()} <= {type(m) for m in model.modules()}
    smaller = prune(back, any_plan(back.layout, ("acc",), seed=1))
    assert torch.isfinite(answer(smaller, ("acc",))).all()


def twinned(case):
    """A model with units that are affine functions of others, and a plan that keeps only those others."""
    model = tiny_model(case)
    tensors, kept = model.tensors(), {}
    with torch.no_grad():
        for name, block in model.layout.blocks.items():
            if block.kind == "ffn":
                up, bias = tensors[f"{name}.up.weight"], tensors[f"{name}.up.bias"]
                up[1::2], bias[1::2] = up[::2], bias[::2]
                up[-1], bias[-1] = 0, 0.7  # says the same always
                kept[name] = tuple(range(0, block.units, 2))
            elif block.groups == (0, 0, 1, 1):  # head 2 looks where head 0 looks, and sees 0.6 of it and 0.3
                first = slice(0, block.head_dim)
                for leaf in ("q", "k", "v"):
                    gain, shift = (0.6, 0.3) if leaf == "v" else (1.0, 0.0)
                    start = block.head_dim * (2 if leaf == "q" else 1)
                    twin = slice(start, start + block.head_dim)
                    weight, bias = (tensors[f"{name}.{leaf}.{kind}"] for kind in ("weight", "bias"))
                    weight[twin], bias[twin] = gain * weight[first], gain * bias[first] + shift
                kept[name] = (0, 1, 3)
            else:  # the pairs of mult have one KV group: head 1 looks where head 0 looks
                size = block.head_dim
                for leaf in ("q.weight", "q.bias"):
                    tensors[f"{name}.{leaf}"][size : 2 * size] = tensors[f"{name}.{leaf}"][:size]
                kept[name] = (0, 2, 3)
    return model, hand_plan(model.layout, NAMES, kept)


@pytest.mark.parametrize("case", CASES)
def test_ridge_brings_back_units_that_are_affine_functions_of_those_that_stay(case):
    model, plan = twinned(case)
    small = compensate(model, plan, collect_moments(model, WINDOWS), "ridge", damping=TINY)
    calibrated = WINDOWS.indices("train")
    calibrated = calibrated[WINDOWS.present[calibrated].all(1)]
    batch = {name: torch.from_numpy(x) for name, x in WINDOWS.batch(calibrated).items()}
    with torch.no_grad():
        whole, made, cut = model(batch), small(batch), prune(model, plan)(batch)
    torch.testing.assert_close(made, whole, rtol=1e-4, atol=1e-4)
    assert (cut - whole).abs().max() > 1e-2


@pytest.mark.parametrize("case", CASES)
def test_bias_brings_back_units_that_always_say_the_same(case):
    model = tiny_model(case)
    tensors, kept = model.tensors(), {}
    with torch.no_grad():
        for name, block in model.layout.blocks.items():
            if block.kind == "ffn":
                tensors[f"{name}.up.weight"][1::2] = 0
                tensors[f"{name}.up.bias"][1::2] = 0.8
                kept[name] = tuple(range(0, block.units, 2))
            else:  # nothing but the bias of the second KV group
                tensors[f"{name}.v.weight"][block.head_dim :] = 0
                tensors[f"{name}.v.bias"][block.head_dim :] = 0.8
                kept[name] = tuple(unit for unit in range(block.units) if block.groups[unit] == 0)
    plan, moments = hand_plan(model.layout, NAMES, kept), collect_moments(model, WINDOWS)
    assert (answer(prune(model, plan)) - answer(model)).abs().max() > 1e-2
    for repair in ("bias", "ridge"):
        made = compensate(model, plan, moments, repair)
        torch.testing.assert_close(answer(made), answer(model), rtol=1e-4, atol=1e-4)


def test_scale_brings_back_twins_by_doubling_the_one_that_stays():
    model = tiny_model()
    at, n = "fusion.0.ffn", 24
    tensors = model.tensors()
    with torch.no_grad():
        for leaf in ("up.weight", "up.bias"):
            tensors[f"{at}.{leaf}"][n // 2 :] = tensors[f"{at}.{leaf}"][: n // 2]
        tensors[f"{at}.down.weight"][:, n // 2 :] = 3 * tensors[f"{at}.down.weight"][:, : n // 2]
    kept = dict(full_plan(model.layout, NAMES).kept) | {at: tuple(range(n // 2))}
    moments = collect_moments(model, WINDOWS)
    plan = hand_plan(model.layout, NAMES, kept)
    small = compensate(model, plan, moments, "scale", damping=TINY)
    torch.testing.assert_close(
        small.tensors()[f"{at}.down.weight"],
        4 * tensors[f"{at}.down.weight"][:, : n // 2],
        rtol=1e-3,
        atol=1e-3,
    )
    torch.testing.assert_close(answer(small), answer(model), rtol=1e-4, atol=1e-4)


def test_scale_gives_up_where_a_factor_leaves_all_bounds():
    weight = np.array([[1.0, 20.0]])
    alike = ColumnMoments(1.0, np.zeros(2), np.ones((2, 2)))  # the unit that stays would have to grow by 20
    loss = Loss(weight, alike, np.array([True, False]), 1)
    assert grow_kept(loss, TINY)[0] == pytest.approx(1.0)
    loss = Loss(weight / 3, alike, np.array([True, False]), 1)
    assert grow_kept(Loss(weight * [1, 0.4], alike, np.array([True, False]), 1), TINY)[0] == pytest.approx(
        9.0
    )
    assert grow_kept(loss, TINY)[0] == pytest.approx(1 / 3)


def error(model, block, kept, moments, repair):
    """Mean squared error of each part's answer, from the moments alone; NaN where all of a part goes."""
    tensors = {name: t.numpy() for name, t in model.tensors().items()}
    last = f"{block.name}.{'down' if block.kind == 'ffn' else 'o'}"
    whole = tensors[f"{last}.weight"].astype(float)
    bias_name = f"{block.name}.bias" if block.active else f"{last}.bias"
    bias = np.atleast_2d(tensors[bias_name]).astype(float)
    made = repair_block(block, kept, tensors, moments, repair, damping=TINY)
    stays = np.repeat(np.isin(np.arange(block.units), kept), block.head_dim or 1)
    off = whole.copy()
    off[:, stays] -= made[f"{last}.weight"]
    alive = block.groups_of(kept) if block.active else [0]
    shift = np.full_like(bias, np.nan)
    shift[alive] = bias[alive] - np.atleast_2d(made[bias_name])
    found = []
    for expert, own in enumerate(group_columns(block)):
        part, lost = moments.parts[block.name][expert], off[:, own]
        found.append(
            np.square(lost @ part.mean + shift[expert]).sum() + np.trace(lost @ part.covariance @ lost.T)
        )
    return np.array(found)


@pytest.mark.parametrize("uneven", [False, True], ids=["even", "uneven"])
@pytest.mark.parametrize("case", CASES)
def test_a_freer_repair_leaves_a_smaller_error_on_what_it_was_made_from(case, uneven):
    model, moments = model_of(case, uneven), moments_of(case, uneven)
    seen = 0
    for seed in range(3):
        for name, kept in any_plan(model.layout, NAMES, seed=seed).kept.items():
            block = model.layout.blocks[name]
            none, bias, scale, ridge = (error(model, block, kept, moments, repair) for repair in REPAIRS)
            there = np.isfinite(none)
            seen += there.sum()
            slack = 1e-6 + 1e-4 * none[there]  # damping and float32
            assert (bias[there] <= none[there] + slack).all()
            assert (scale[there] <= none[there] + slack).all()
            assert (ridge[there] <= np.minimum(bias, scale)[there] + slack).all()
    assert seen > 10


def test_an_expert_that_goes_as_a_whole_leaves_the_others_as_they_are():
    model, moments = model_of("flexmoe"), moments_of("flexmoe")
    block = model.layout.blocks["layers.0.ffn"]
    kept = tuple(unit for unit in range(block.units) if block.groups[unit] != 1)
    plan = hand_plan(model.layout, NAMES, dict(full_plan(model.layout, NAMES).kept) | {"layers.0.ffn": kept})
    cut = prune(model, plan).tensors()
    for repair in REPAIRS:
        made = compensate(model, plan, moments, repair).tensors()
        assert all(torch.equal(made[name], cut[name]) for name in cut)


def test_a_block_nobody_saw_is_left_as_it_was_cut():
    model = model_of("small")
    moments = collect_moments(model, WINDOWS, present=("acc",))
    plan = any_plan(model.layout, NAMES, seed=1)
    cut, made = prune(model, plan).tensors(), compensate(model, plan, moments, "ridge").tensors()
    alike = {name: torch.equal(cut[name], made[name]) for name in cut}
    assert all(same for name, same in alike.items() if name.startswith("encoder.temp"))
    assert not all(same for name, same in alike.items() if name.startswith(("encoder.acc", "fusion")))


def test_bad_requests_are_refused():
    model, moments = model_of("small"), moments_of("small")
    plan = any_plan(model.layout, NAMES, seed=1)
    with pytest.raises(ConfigError, match="none, bias, scale, ridge"):
        compensate(model, plan, moments, "glue")
    with pytest.raises(ConfigError, match="damping must be a positive number"):
        compensate(model, plan, moments, "ridge", damping=0.0)
    with pytest.raises(ConfigError, match="do not belong to block"):
        compensate(model, plan, moments_of("small", True), "ridge")
    with pytest.raises(ConfigError, match="do not belong to block"):
        compensate(model, plan, Moments({}), "ridge")
