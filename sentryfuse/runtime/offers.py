"""Bundles that are offered to a running stream, and what became of each."""

from __future__ import annotations

from collections import Counter, deque
from enum import StrEnum
from threading import Event, Lock
from typing import Any

import numpy as np

from sentryfuse.bundle import Bundle
from sentryfuse.engine.selfcheck import probe_of
from sentryfuse.engine.session import Session
from sentryfuse.errors import BundleError, ConfigError, SignatureError

DIGEST = 12  # letters of a bundle's digest that name it in lines
LATEST = 20  # offers remembered


class Outcome(StrEnum):
    """What became of an offer.

    WAITING: it passed its self-check and no window has come since. TOOK_OVER: it answers. REPLACED: a later
    one was accepted before a window came. REFUSED: it cannot serve here. ROLLED_BACK: it took over and
    failed on probation.
    """

    WAITING = "waiting"
    TOOK_OVER = "took_over"
    REPLACED = "replaced"
    REFUSED = "refused"
    ROLLED_BACK = "rolled_back"


class Offer:
    """One bundle that was offered; written by the stream's thread, read by any.

    Attributes:
        digest: beginning of the bundle's digest; empty for a file that could not be read as one.
        outcome: see `Outcome`.
        window_id: where it took over; of one that was rolled back, which window it failed at.
        reason: why it was refused, replaced or rolled back.
        proven: it has passed its probation.
    """

    def __init__(self, digest: str) -> None:
        self.digest, self.outcome = digest, Outcome.WAITING
        self.window_id: int | None = None
        self.reason, self.proven = "", False
        self._settled = Event()

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is known what became of it.

        Args:
            timeout_s: at most so long [s].

        Returns:
            Whether it is known.
        """
        return self._settled.wait(timeout_s)

    def settle(self, outcome: Outcome, *, window_id: int | None = None, reason: str = "") -> None:
        """Say what became of it; who waits is told by `tell`."""
        self.window_id, self.reason, self.outcome = window_id, reason, outcome

    def tell(self) -> None:
        """Let those go on who wait for it."""
        self._settled.set()

    def to_json(self) -> dict[str, Any]:
        """Everything, ready for `json.dumps`."""
        return {
            "bundle": self.digest,
            "outcome": str(self.outcome),
            "window_id": self.window_id,
            "reason": self.reason,
            "proven": self.proven,
        }


class Offers:
    """The latest offers, and how many there were of each outcome; from any thread.

    Attributes:
        counts: outcome -> offers; one that took over and was rolled back counts as both.
        latest: the latest of them; copy it before looking through it.
    """

    def __init__(self) -> None:
        self.counts: Counter[Outcome] = Counter(dict.fromkeys(Outcome, 0))
        self.latest: deque[Offer] = deque(maxlen=LATEST)
        self._lock = Lock()

    def begin(self, digest: str) -> Offer:
        """Remember one that waits for a window."""
        offer = Offer(digest)
        self.latest.append(offer)
        return offer

    def settle(
        self, offer: Offer, outcome: Outcome, *, window_id: int | None = None, reason: str = ""
    ) -> None:
        """Say what became of one, and count it; of one that takes over, the first window comes yet."""
        with self._lock:  # refusals come from several threads
            self.counts[outcome] += 1
        offer.settle(outcome, window_id=window_id, reason=reason)
        if outcome is not Outcome.TOOK_OVER:
            offer.tell()


def check_alike(ours: Bundle, bundle: Bundle) -> None:
    """Refuse a bundle that cannot take the place of another one.

    Raises:
        ConfigError: it was made for other sensors, classes or normalisation.
        SignatureError: it was not verified with the key that the other one was.
    """
    if ours.signed_by and bundle.signed_by != ours.signed_by:
        raise SignatureError(
            f"this runtime was started with bundles of the key {ours.signed_by[:16]}, the new one was "
            f"{'verified with another' if bundle.signed_by else 'not verified'}; open it with "
            "load_bundle(path, verify=KEY)"
        )
    same = bundle.layout.modalities == ours.layout.modalities
    if not same or bundle.classes != ours.classes or bundle.normalise != ours.normalise:
        raise ConfigError(
            "the new bundle was made for other sensors, classes or normalisation than the one that is "
            "serving; start a runtime of its own for it"
        )


def check_answers(session: Session, bundle: Bundle) -> None:
    """Have a sub-network answer one window like those of its training, noise of their mean and deviation.

    Raises:
        BundleError: it fails, or its numbers are not finite.
    """
    probe = probe_of(bundle)
    try:
        answer = session.run(probe.windows)
    except Exception as error:  # whatever an engine raises
        raise BundleError(f"the new bundle fails its self-check ({error}); export it again") from error
    if not np.isfinite(answer).all():
        raise BundleError(
            "the new bundle fails its self-check, a window is answered with numbers that are not finite; "
            "train or export it again"
        )
