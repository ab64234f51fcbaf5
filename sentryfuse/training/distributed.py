"""One training shared by the processes that `torchrun` starts; needs torch.

Every process draws the same batches, sensors, augmentation and sub-networks from the same seed, computes its
share of each batch, and adds up gradients, saliency and losses with the others, so that the result is that
of one process up to rounding. What cannot be equal is dropout inside a model: each process draws its own.

Not `DistributedDataParallel`: a step is several passes over changing parts of the model (sensors, sliced
weights), which it takes for unused parameters and reduces once per pass; and means that no gradient shows,
such as saliency and expert balance, would have to be added up beside it anyway. One explicit sum of one flat
buffer per step is less to go wrong, and a pruned or wrapped model stays an ordinary one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist

from sentryfuse.errors import ConfigError, SentryFuseError

TIMEOUT = timedelta(hours=2)  # the others wait while the first one validates
GRACE_S = 1.0  # `torchrun` ends all processes as soon as one has gone; the one with the message needs time
DEVICES = ("cpu", "cuda")


class ProcessGroup:
    """The processes of one training; one alone where torch.distributed has not been started.

    Args:
        device: where this process computes, and where its process group exchanges tensors.

    Attributes:
        rank: number of this process.
        size: number of processes.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        together = dist.is_available() and dist.is_initialized()
        self.rank, self.size = (dist.get_rank(), dist.get_world_size()) if together else (0, 1)

    @property
    def leads(self) -> bool:
        """Whether this is process 0, which validates, prints and writes files for all."""
        return self.rank == 0

    def share(self, n: int) -> tuple[slice, float]:
        """The rows of a batch that this process computes, and their share of the batch.

        Args:
            n: windows of the batch, >= 1.

        Returns:
            At least one window, so that every process takes the same steps: where there are fewer windows
            than processes, some compute one of another process for a part of 0. The parts of all sum to 1.
        """
        start, end = (n * k // self.size for k in (self.rank, self.rank + 1))
        return slice(start, max(end, start + 1)), (end - start) / n

    def sum_tensors(self, tensors: Iterable[Tensor]) -> list[Tensor]:
        """The sum of each tensor over the processes; all give the same shapes."""
        given = list(tensors)
        if self.size == 1 or not given:
            return given
        flat = torch.cat([t.detach().flatten() for t in given])
        self._collective(dist.all_reduce, flat)
        parts = flat.split([t.numel() for t in given])
        return [part.view_as(t) for part, t in zip(parts, given, strict=True)]

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their sum; where no process has one, there is none, as in one process."""
        if self.size == 1:
            return
        own = list(parameters)
        there = torch.tensor([float(p.grad is not None) for p in own], device=self.device)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in own]
        *sums, there = self.sum_tensors([*gradients, there])
        for parameter, gradient, processes in zip(own, sums, there.tolist(), strict=True):
            parameter.grad = gradient if processes else None

    def sum_numbers(self, numbers: Iterable[float]) -> list[float]:
        """The sum of each number over the processes."""
        own = list(numbers)
        if self.size == 1:
            return own
        (sums,) = self.sum_tensors([torch.tensor(own, dtype=torch.float64, device=self.device)])
        return [float(value) for value in sums]

    def batch_mean(self, part: float) -> Callable[[Tensor], Tensor]:
        """A function from a mean over this process's rows to the mean over the batch.

        Args:
            part: of the batch that the share is.

        Returns:
            A function; the gradient it passes on is that of the share alone, so that the sum of the
            processes' gradients is the whole one.
        """

        def over_batch(value: Tensor) -> Tensor:
            if self.size == 1:
                return value
            own = part * value
            return own + (self.sum_tensors([own])[0] - own.detach())

        return over_batch

    def broadcast(self, content: bytes) -> bytes:
        """The bytes that process 0 gives, in every process; those of the others are not read."""
        if self.size == 1:
            return content
        length = torch.tensor([len(content)], device=self.device)
        self._collective(dist.broadcast, length, 0)
        if not length:
            return b""
        letters = torch.zeros(int(length), dtype=torch.uint8, device=self.device)
        if self.leads:
            letters.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        self._collective(dist.broadcast, letters, 0)
        return letters.cpu().numpy().tobytes()

    def broadcast_weights(self, module: nn.Module) -> None:
        """Give every process the weights of process 0."""
        if self.size > 1:
            for tensor in module.state_dict().values():
                self._collective(dist.broadcast, tensor, 0)

    def average(self, statistics: Sequence[Tensor], part: float) -> None:
        """Replace running statistics of the processes by their mean, in every process.

        Args:
            statistics: of this process; changed in place.
            part: of the batch that the share is.
        """
        if self.size > 1:
            for own, mean in zip(statistics, self.sum_tensors([part * s for s in statistics]), strict=True):
                own.copy_(mean)

    @contextmanager
    def own_rng(self, *seed: int) -> Iterator[None]:
        """Random numbers of this process alone (dropout); the common stream (augmentation) stays as it is.

        One process on the CPU, the reference, draws both from one stream. On another device a seed per step
        also makes a resumed training equal to one that was never stopped.

        Args:
            seed: of the process's own stream, together with its rank.
        """
        if self.size == 1 and self.device.type == "cpu":
            yield
            return
        own = np.random.SeedSequence([*seed, self.rank]).generate_state(1, np.uint64)
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(int(own[0]))
            yield

    def _collective(self, collective: Callable[..., Any], tensor: Tensor, *source: int) -> None:
        try:
            collective(tensor, *source)
        except RuntimeError as error:
            raise SentryFuseError(
                f"process {self.rank} of {self.size} cannot reach the others "
                f"({str(error).strip().splitlines()[0]}); see what the one that ended said, and repeat the "
                "same command to go on from the last epoch"
            ) from error


@contextmanager
def process_group(device: str) -> Iterator[ProcessGroup]:
    """Join the processes of `torchrun`, if it started this one.

    An error in one process ends all of them, and one prints why.

    Args:
        device: "cpu" (gloo) or "cuda" (nccl; each process takes the GPU of its local number).

    Yields:
        This process and the others.

    Raises:
        ConfigError: an unknown device, or one that is not here.
    """
    if not dist.is_available() or not dist.is_torchelastic_launched():
        yield ProcessGroup(check_device(device))
        return
    from torch.distributed.rendezvous import rendezvous  # not there in every build of torch

    try:
        store, rank, size = next(rendezvous("env://", timeout=TIMEOUT))
    except RuntimeError as error:
        raise SentryFuseError(
            f"this process cannot reach the others ({str(error).strip().splitlines()[0]}); check the "
            "address that torchrun was given"
        ) from error
    try:
        place = check_device(device)
        if place.type == "cuda":
            torch.cuda.set_device(place)
        backend = "nccl" if place.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
        yield ProcessGroup(place)
    except SentryFuseError:
        if not _failed_first(store):
            time.sleep(GRACE_S)
            raise SystemExit(2) from None
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def check_device(name: str) -> torch.device:
    """The device behind a name.

    Raises:
        ConfigError: an unknown device, or one that is not here.
    """
    if name not in DEVICES:
        raise ConfigError(f"device {name!r} is unknown; choose one of {', '.join(DEVICES)}")
    if name == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError("device cuda was asked for and torch finds no GPU here; use --device cpu")
    own = int(os.environ["LOCAL_RANK"]) if dist.is_available() and dist.is_torchelastic_launched() else 0
    if own >= torch.cuda.device_count():
        raise ConfigError(
            f"process {own} on this machine has no GPU of its own, there are {torch.cuda.device_count()}; "
            "start fewer processes, or use --device cpu"
        )
    return torch.device("cuda", own)


def _failed_first(store: Any) -> bool:
    """Whether this process is the first of all to fail; it prints why."""
    first = True
    with suppress(RuntimeError):  # the store has gone with the other processes
        first = store.add("sentryfuse failed", 1) == 1
    return first
