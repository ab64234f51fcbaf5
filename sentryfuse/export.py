"""A trained model -> a bundle that has been checked against torch before it gets its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sentryfuse.bundle import Bundle, load_bundle, save_bundle
from sentryfuse.bundle.signature import read_signer
from sentryfuse.engine.session import Session
from sentryfuse.errors import BundleError
from sentryfuse.files import write_atomically
from sentryfuse.model.pretrained import SentryModel, bundle_name
from sentryfuse.progress import Progress
from sentryfuse.pruning.cut import selection
from sentryfuse.types import Budget, Plan

# largest difference of a probability, or of a number in training deviations, between onnxruntime and torch
TOLERANCE = 1e-4
WINDOWS = 3  # random ones, of each plan
GROUPS = 8  # of sensors that are absent together in the check, however many sensors there are


def export_bundle(model: SentryModel, path: str | Path, sign: str | Path | None = None) -> dict[str, Any]:
    """Write the one file a device needs.

    The bundle is read back and answers for several sensor sets and ratios, in which every sensor is absent at
    least once; if any answer differs from torch's, nothing is written. Takes from a second to a few minutes,
    by the number of steps; a bar shows how far it is.

    Args:
        model: trained or pruned; not changed.
        path: the file to write.
        sign: private key (PEM, Ed25519); its signature goes into the file `.sig` beside the bundle. Needs
            the extra `sign`.

    Returns:
        What was checked: number of plans and the largest difference of a probability; with `sign` the number
        of its key.

    Raises:
        BundleError: onnxruntime and torch disagree.
        ConfigError: `sign` is not such a key.
    """
    signer = None if sign is None else read_signer(sign)
    model.eval()
    tensors: dict[str, Any] = {
        bundle_name(name): t.numpy().astype(np.float32) for name, t in model.tensors().items()
    }
    config, mixture = model.config, model.mixture
    if mixture is not None:
        tensors |= {f"readout.{name}": value for name, value in mixture.tensors().items()}
    manifest = {
        "layout": model.layout.to_json(),
        "classes": list(config.classes),
        "normalise": "train" if config.normalise == "auto" else config.normalise,
        "subject_floor": {k: list(v) for k, v in config.subject_floor.items()},
        **({} if not config.subject_prior else {"subject_prior": dict(config.subject_prior)}),
        "readout": None if mixture is None else mixture.settings(),
        **({} if config.target.of_classes else {"target": asdict(config.target)}),
        "about": {**config.about, "backbone": config.backbone, "preset": config.preset},
    }
    with write_atomically(path) as partial:
        save_bundle(partial, manifest=manifest, tensors=tensors)
        checked = check_against_torch(model, partial)
        if not checked["max_difference"] <= TOLERANCE:
            raise BundleError(
                f"the exported graphs differ from torch by {checked['max_difference']:.1e} (allowed "
                f"{TOLERANCE:.0e}); nothing was written, please report this model's configuration"
            )
        line = "" if signer is None else signer.line(partial.read_bytes())
    if signer is None:
        return checked
    # until this is written the new bundle counts as changed, never as signed
    signer.write(path, line)
    return {**checked, "signed_by": signer.key_id}


def check_against_torch(model: SentryModel, path: Path) -> dict[str, Any]:
    """Compare the bundle's answers with torch's on random windows, for several plans."""
    bundle = load_bundle(path)
    rng = np.random.default_rng(0)
    worst, n = 0.0, 0
    asked = _sets_to_check(bundle.names)
    with Progress("checking", len(asked)) as bar:
        for done, (present, ratio) in enumerate(asked, 1):
            plan = bundle.plan(present, Budget(ratio=ratio))
            if not plan.readout_alone:
                worst, n = max(worst, _difference(model, bundle, plan, rng)), n + 1
            bar.update(done, f"largest difference {worst:.1e}")
    return {"plans": n, "max_difference": worst}


def _difference(model: SentryModel, bundle: Bundle, plan: Plan, rng: np.random.Generator) -> float:
    """Largest difference of a probability between torch and the bundle, for one plan."""
    windows = {}
    for m in model.layout.modalities:
        mean, std = model.statistics(m.name)
        x = rng.standard_normal((WINDOWS, m.length, m.n_channels)) * std + mean
        if m.may_miss:
            x[rng.random(x.shape) < 0.3] = np.nan
        windows[m.name] = x.astype(np.float32)
    got = Session(bundle, plan, batch=WINDOWS).transformer(windows)
    with torch.no_grad():
        inputs = {name: torch.from_numpy(x) for name, x in windows.items()}
        want = model.answers(model(inputs, plan.present, select=selection(plan)))
    scale = model.config.target.std if model.config.target.task == "regression" else 1.0
    return float(np.abs((got - want) / scale).max())


def _sets_to_check(names: Sequence[str]) -> list[tuple[tuple[str, ...], float]]:
    """Sensors present and ratio: all and some of them missing; dense, middle and nearly nothing.

    Up to `GROUPS` sensors each is missing in turn; of more, neighbours are missing together.
    """
    asked = [(tuple(names), ratio) for ratio in (0.0, 0.5, 0.8, 0.97)]
    n = min(len(names), GROUPS)
    for group in range(n if n > 1 else 0):
        present = tuple(name for i, name in enumerate(names) if i * n // len(names) != group)
        asked += [(present, ratio) for ratio in (0.6, 0.95)]
    return asked
