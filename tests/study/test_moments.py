"""What is watched is what the block computes with, and its moments are those of the rows, however batched."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from sentryfuse.errors import ConfigError, NoSensorsError
from sentryfuse.model import Selection
from sentryfuse.study.repair import ConditionalMoments, Moments, blend, collect_conditional, collect_moments
from sentryfuse.study.repair.moments import ColumnMoments, group_columns, prototype_sets
from tests.tiny import CASES, NAMES, tiny_batch, tiny_model, tiny_windows, uneven_widths

WINDOWS = tiny_windows(40)


def torch_batch(windows, indices, names):
    return {name: torch.from_numpy(x) for name, x in windows.batch(indices, names).items()}


def said_of(model, batch, present):
    """Block name -> (what the block answered, rows watched, worth watched)."""
    answers, watched = {}, {}
    hooks = []
    for name in model.layout.blocks:
        module = model.backbone.get_submodule(name)
        hooks.append(module.register_forward_hook(lambda _, __, out, name=name: answers.update({name: out})))
    with torch.no_grad():
        model(batch, present, select=Selection(watch=lambda name, *what: watched.update({name: what})))
    for hook in hooks:
        hook.remove()
    return {name: (answers[name], *watched[name]) for name in answers}


@pytest.mark.parametrize("uneven", [False, True], ids=["even", "uneven"])
@pytest.mark.parametrize("case", CASES)
def test_what_is_watched_times_the_weights_is_what_the_block_answers(case, uneven):
    model = tiny_model(case, widths=uneven_widths(case) if uneven else None)
    batch = {name: torch.from_numpy(x) for name, x in tiny_batch().items()}
    tensors = model.tensors()
    found = said_of(model, batch, NAMES)
    assert found.keys() == model.layout.blocks.keys()
    for name, (answer, rows, worth) in found.items():
        block = model.layout.blocks[name]
        if not block.active:
            last = f"{name}.{'o' if block.kind == 'heads' else 'down'}"
            made = rows @ tensors[f"{last}.weight"].T + tensors[f"{last}.bias"]
        else:
            made = 0
            for expert, columns in enumerate(group_columns(block)):
                own = rows[:, columns] @ tensors[f"{name}.down.weight"][:, columns].T
                made = made + worth[:, expert, None] * (own + tensors[f"{name}.bias"][expert])
            if block.capacity:  # a row is a place of an expert, so a window is compared as a whole
                made = made.unflatten(0, (worth.shape[1], 3, -1)).sum((0, 2))
                answer = answer.unflatten(0, (3, -1)).sum(1)
        torch.testing.assert_close(made, answer, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", ["small", "flexmoe", "taken", "experts"])
def test_moments_are_those_of_all_rows_weighted_by_worth_squared(case):
    model = tiny_model(case, widths=uneven_widths(case))
    windows = tiny_windows(120)  # with sensors missing: several batches
    pool = windows.indices("train")
    moments = collect_moments(model, windows, n_windows=10**6)
    patterns = [
        np.flatnonzero((windows.present[pool] == p).all(1)) for p in np.unique(windows.present, axis=0)
    ]
    seen: dict[str, list[Any]] = {name: [] for name in model.layout.blocks}
    for members in patterns:
        if not len(members):
            continue
        on = [n for n, there in zip(NAMES, windows.present[pool[members[0]]], strict=True) if there]
        batch = torch_batch(windows, pool[members], on)
        for name, (_, rows, worth) in said_of(model, batch, on).items():
            seen[name].append((rows, worth))
    for name, rows_and_worth in seen.items():
        rows = torch.cat([rows for rows, _ in rows_and_worth]).double().numpy()
        for expert, columns in enumerate(group_columns(model.layout.blocks[name])):
            part = moments.parts[name][expert]
            weights = np.ones(len(rows))
            if rows_and_worth[0][1] is not None:
                weights = torch.cat([worth[:, expert] for _, worth in rows_and_worth]).double().numpy() ** 2
            assert part.weight == pytest.approx(weights.sum() / len(pool), rel=1e-4)
            if not weights.any():  # an expert nobody asked
                continue
            want = np.average(rows[:, columns], axis=0, weights=weights)
            np.testing.assert_allclose(part.mean, want, rtol=1e-4, atol=1e-5)
            want = np.atleast_2d(np.cov(rows[:, columns].T, aweights=weights, ddof=0))
            np.testing.assert_allclose(part.covariance, want, rtol=1e-3, atol=1e-5)


def test_moments_survive_a_mean_far_from_zero():
    model = tiny_model()
    at = "encoder.acc.0.ffn"
    with torch.no_grad():
        model.tensors()[f"{at}.up.bias"].add_(1e4)
    covariance = collect_moments(model, WINDOWS).parts[at][0].covariance
    off = tiny_model()  # gelu is the identity up there: the same rows without the far mean
    with torch.no_grad():
        off.tensors()[f"{at}.up.bias"].add_(100)
    want = collect_moments(off, WINDOWS).parts[at][0].covariance
    np.testing.assert_allclose(covariance, want, atol=2e-3)
    assert np.linalg.eigvalsh(covariance).min() > -1e-9


def test_blocks_of_absent_sensors_are_unknown_and_the_same_seed_gives_the_same_moments():
    model = tiny_model()
    moments = collect_moments(model, WINDOWS, present=("age",), seed=3)
    assert moments.parts["encoder.acc.0.ffn"][0].weight == 0
    assert moments.parts["fusion.0.ffn"][0].weight == 1  # one token of age in every window
    again = collect_moments(model, WINDOWS, present=("age",), seed=3)
    for name, parts in moments.parts.items():
        assert np.array_equal(parts[0].covariance, again.parts[name][0].covariance)


def test_a_mixture_runs_every_block_now_and_then():
    model = tiny_model()
    every, mixed = (collect_moments(model, WINDOWS, present=what) for what in (None, "mixture"))
    for name, (part,) in mixed.parts.items():
        assert 0 < part.weight < every.parts[name][0].weight


@pytest.mark.parametrize(
    ("options", "message"),
    [({"present": ("nose",)}, "unknown sensor nose"), ({"n_windows": 0}, "use 1 or more")],
)
def test_what_cannot_be_collected_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        collect_moments(tiny_model(), WINDOWS, **options)


def part_of(rows, worth):
    weights = worth**2
    mean = np.average(rows, axis=0, weights=weights)
    return ColumnMoments(weights.sum(), mean, np.cov(rows.T, aweights=weights, ddof=0))


def test_a_blend_is_the_moments_of_the_mixture():
    rng = np.random.default_rng(0)
    kinds = [(rng.normal(k, 1 + k, (30 + 9 * k, 4)), rng.normal(1, 1, 30 + 9 * k)) for k in range(3)]
    moments = [Moments({"x": (part_of(*kind),)}) for kind in kinds]
    (made,) = blend(moments, [2, 1, 1]).parts["x"]
    rows = np.concatenate([kinds[0][0], *(kind[0] for kind in kinds)])
    (want,) = (part_of(rows, np.concatenate([kinds[0][1], *(kind[1] for kind in kinds)])),)
    assert made.weight == pytest.approx(want.weight / 4)
    np.testing.assert_allclose(made.mean, want.mean)
    np.testing.assert_allclose(made.covariance, want.covariance)


def test_a_blend_takes_what_one_kind_does_not_run_from_the_others():
    known, unknown = ColumnMoments(2.0, np.ones(3), np.eye(3)), ColumnMoments.unknown(3)
    (made,) = blend([Moments({"x": (known,)}), Moments({"x": (unknown,)})], [1, 99]).parts["x"]
    np.testing.assert_allclose(made.mean, known.mean)
    np.testing.assert_allclose(made.covariance, known.covariance)
    (nothing,) = blend([Moments({"x": (unknown,)})], [1]).parts["x"]
    assert nothing.weight == 0


@pytest.mark.parametrize("weights", [[], [1], [1, -1], [0, 0], [1, 1, 1]])
def test_weights_that_blend_nothing_are_refused(weights):
    one = Moments({"x": (ColumnMoments.unknown(3),)})
    with pytest.raises(ConfigError, match="one weight >= 0 for each"):
        blend([one, one], weights)
    with pytest.raises(ConfigError, match="different models"):
        blend([one, Moments({"x": (ColumnMoments.unknown(4),)})], [1, 1])


def test_conditional_moments_are_exact_for_a_prototype_and_blend_the_nearest_for_other_sets():
    model = tiny_model("mult")
    known = collect_conditional(model, WINDOWS, n_windows=8)
    assert len(known.prototypes) == 7
    for present, moments in known.prototypes.items():
        assert known.moments_for(reversed(present)) is moments
    assert known.moments_for() is known.prototypes[NAMES]
    few = ConditionalMoments(NAMES, {on: known.prototypes[on] for on in (NAMES, ("acc",), ("temp", "age"))})
    one = few.moments_for(("acc", "temp"))  # one sensor away from all and from acc alone
    want = blend([known.prototypes[NAMES], known.prototypes[("acc",)]], [1, 1])
    for name, (part,) in one.parts.items():
        assert part.mean == pytest.approx(want.parts[name][0].mean, rel=1e-2, abs=1e-2)
        assert part.weight > 0
    with pytest.raises(NoSensorsError):
        known.moments_for(())


def test_blocks_inside_one_branch_do_not_depend_on_the_other_sensors():
    model = tiny_model()
    known = collect_conditional(model, WINDOWS)
    for on, other in itertools.combinations([on for on in known.prototypes if "acc" in on], 2):
        first, second = (known.prototypes[names].parts["encoder.acc.0.ffn"][0] for names in (on, other))
        np.testing.assert_allclose(first.mean, second.mean, rtol=1e-5)
        np.testing.assert_allclose(first.covariance, second.covariance, rtol=1e-4, atol=1e-9)


def test_prototypes_are_all_all_but_one_and_one_alone_without_repeats():
    assert prototype_sets(("a", "b", "c", "d"))[5:] == [("a",), ("b",), ("c",), ("d",)]
    assert [len(prototype_sets(("a", "b", "c", "d")[:n])) for n in (1, 2, 3, 4)] == [1, 3, 7, 9]
