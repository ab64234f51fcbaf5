"""A bundle in memory, and reading one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from sentryfuse.bundle.beside import read_mixture
from sentryfuse.bundle.container import Inconsistent, check_digests, open_container, save_bundle
from sentryfuse.bundle.manifest import read_manifest
from sentryfuse.bundle.routes import check_routes
from sentryfuse.bundle.signature import Verifier, read_verifier
from sentryfuse.bundle.sizes import check_sizes
from sentryfuse.bundle.tensors import check_names, check_values
from sentryfuse.errors import BundleError, SignatureError
from sentryfuse.gate.predict import NumpyGate
from sentryfuse.graph import Misfit, Writer
from sentryfuse.planning.importance import levelled
from sentryfuse.planning.layout import Layout
from sentryfuse.planning.plan import plan_layout
from sentryfuse.planning.profile import DeviceProfile
from sentryfuse.planning.removals import Priced
from sentryfuse.readout import Mixture
from sentryfuse.target import CLASSES, Target
from sentryfuse.types import Budget, Plan, check_present

__all__ = ["Bundle", "load_bundle", "save_bundle"]
Array = NDArray[Any]
LONGEST = 400  # characters of an error, without the path


@dataclass(frozen=True, eq=False, repr=False)
class Bundle:
    """A verified bundle.

    Attributes:
        layout: what the model computes.
        classes: names of the classes, numbers or labels.
        normalise: "train" (inside the model) or "subject" (each person's own statistics first).
        subject_floor: modality -> smallest deviation used per subject, `(C,)`.
        subject_prior: modality -> what is supposed of a person nobody has seen, `(4, C)`; empty = nothing.
        weights: all weights of the big model by name.
        gate: presence -> importance.
        mixture: the readout and its weight beside the transformer; `None` = there is none.
        target: what is asked for; of numbers and labels with what they are standardised by.
        signed_by: number of the key that its signature was verified with; "" = nobody asked.
        about: facts for people: backbone, preset, training.
        digest: sha256 over the whole content.
        tensors: everything the file holds by its name there; weights and gate are the same arrays.
        digests: of the tensors, as the manifest has them.
        origin: the file it was read from and the key that verified it; `None` = of no file.
    """

    layout: Layout
    classes: tuple[str, ...]
    normalise: str
    subject_floor: Mapping[str, Any]
    weights: Mapping[str, Array]
    gate: NumpyGate
    about: Mapping[str, Any]
    digest: str
    mixture: Mixture | None = None
    target: Target = CLASSES
    signed_by: str = ""
    subject_prior: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Array] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    origin: tuple[Path, Path | None] | None = None

    def __repr__(self) -> str:
        """What it is, in one line."""
        sensors = ", ".join(f"{m.name} {m.length} x {m.n_channels}" for m in self.layout.modalities)
        size_mb = sum(t.nbytes for t in self.weights.values()) / 1e6
        kind = self.about.get("backbone", "a model")
        text = f"{kind} for {sensors}; classes {', '.join(self.classes)}; {size_mb:.2f} MB"
        return f"Bundle({text if len(text) <= LONGEST else text[:LONGEST] + ' ...'}; {self.digest[:12]})"

    def __getstate__(self) -> dict[str, Any]:
        """Without what is made from the rest, so that it can be sent to another process."""
        made = ("writer", "_priced")
        return {name: value for name, value in self.__dict__.items() if name not in made}

    @property
    def names(self) -> tuple[str, ...]:
        """Modality names, in order."""
        return self.layout.names

    @cached_property
    def writer(self) -> Writer:
        """What writes sub-networks of this model as graphs."""
        return Writer(self.layout, self.weights, len(self.classes))

    @cached_property
    def _priced(self) -> Priced:
        return Priced(self.layout, lambda names: levelled(self.gate.importance(names)))

    def plan(
        self,
        present: Iterable[str] | None = None,
        budget: Budget | None = None,
        profile: DeviceProfile | None = None,
    ) -> Plan:
        """Decide which units stay for these sensors and this budget; see `plan_layout`."""
        names = check_present(present, self.names)
        return plan_layout(
            self.layout,
            self._priced,
            present=names,
            budget=budget or Budget(ratio=0.0),
            scorer="gate",
            profile=profile,
            beside=None if self.mixture is None else self.mixture.readout.cost(names),
        )

    def with_break_even(self, sparse_from: int | None) -> Bundle:
        """The same model with the sparse core from another length on; plans, counts and graphs follow.

        Args:
            sparse_from: shortest length at which the sparse core is used [tokens]; `None` leaves it as
                trained.
        """
        rule = self.layout.attention
        if sparse_from is None or rule.core == "dense" or sparse_from == rule.sparse_from:
            return self
        return replace(self, layout=replace(self.layout, attention=replace(rule, sparse_from=sparse_from)))

    def read_again(self) -> Bundle:
        """The same bundle from its file, verified as it was the first time; see `load_bundle`.

        Raises:
            BundleError: it is of no file, or that file cannot be read or holds another bundle now.
        """
        if self.origin is None:
            raise BundleError("this bundle is of no file, so it cannot be read again; use load_bundle")
        path, verify = self.origin
        found = load_bundle(path, verify)
        if found.digest != self.digest:
            raise BundleError(
                f"{path} holds another bundle now, {found.digest[:12]} in place of {self.digest[:12]}; put "
                "the one back that is served, or serve the other one"
            )
        return found


def load_bundle(path: str | Path, verify: str | Path | None = None) -> Bundle:
    """Read a bundle and verify it; see the room's description for what is checked in which order.

    Args:
        path: a file written by `sentryfuse export`.
        verify: public key (PEM, Ed25519) of whom it must be signed by, in the file `.sig` beside it; checked
            before anything else. Needs the extra `sign`. `None` asks for no signature.

    Returns:
        The bundle; nothing is kept open, and its arrays cannot be written to.

    Raises:
        BundleError: not a bundle, damaged, of another format version, or not self-consistent;
            `SignatureError` where it is not signed with the key that was asked for.
        ConfigError: `verify` is not such a key.
        ModuleNotFoundError: `verify` without the extra `sign`.
    """
    verifier = None if verify is None else read_verifier(verify)
    try:
        origin = (Path(path).absolute(), None if verify is None else Path(verify).absolute())
        return replace(_load(path, verifier), origin=origin)
    except (Inconsistent, Misfit) as error:
        raise BundleError(f"{path} {_short(error)}; export it again") from None
    except SignatureError as error:
        raise SignatureError(f"{path} {_short(error)}") from None
    except BundleError as error:
        raise BundleError(f"{path} {_short(error)}") from None
    except (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError) as error:
        # no check above should let this happen; a device must still get its one sentence
        raise BundleError(f"{path} cannot be understood ({_short(repr(error))}); export it again") from error


def _short(sentence: object) -> str:
    """Without the middle if it is long: names in a bundle may be."""
    text = str(sentence)
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"


def _load(path: str | Path, verifier: Verifier | None) -> Bundle:
    with open_container(path, partial(verifier.check, path) if verifier else None) as container:
        manifest = read_manifest(container.manifest)
        check_routes(manifest.layout)
        check_sizes(manifest.layout)
        check_names(manifest.layout, container.entries)
        tensors = container.tensors()
    check_digests(manifest.digests, tensors)
    parts: dict[str, dict[str, Array]] = {"weights": {}, "gate": {}, "readout": {}}
    for name, tensor in tensors.items():
        kind, rest = name.split(".", 1)
        parts[kind][rest] = tensor
    gate = NumpyGate(manifest.layout, parts["gate"])
    check_values(parts["weights"], manifest.layout, gate)
    bundle = Bundle(
        layout=manifest.layout,
        classes=manifest.classes,
        normalise=manifest.normalise,
        subject_floor=manifest.subject_floor,
        subject_prior=manifest.subject_prior,
        weights=parts["weights"],
        gate=gate,
        about=manifest.about,
        digest=container.digest,
        mixture=read_mixture(manifest, parts["readout"]),
        target=manifest.target,
        signed_by=verifier.key_id if verifier else "",
        tensors=tensors,
        digests=manifest.digests,
    )
    bundle.writer.check_steps()
    return bundle
