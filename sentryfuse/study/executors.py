"""Running tasks: in processes of this machine, or on a Ray cluster; the same function, the same lines."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

from sentryfuse.errors import ConfigError
from sentryfuse.study.jobs import Training
from sentryfuse.study.tasks import Outcome, Task, run_task

EXECUTORS = ("local", "ray")
# Small models gain nothing from more threads, and one thread always adds up in the same order.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
# Without it a new process looks for modules in the current folder first, and would run what lies there.
OWN_MODULES = {"PYTHONSAFEPATH": "1"}
PACKAGES = Path(__file__).resolve().parents[2]  # where this package was found


class Executor(Protocol):
    """Runs tasks, several at a time.

    Attributes:
        slots: how many at a time.
    """

    slots: int

    def submit(self, task: Task) -> None:
        """Start a task; at most `slots` may be under way."""

    def wait(self) -> tuple[Task, Outcome]:
        """Wait until a task is done."""

    def close(self) -> None:
        """Stop whatever is under way."""


def check_executor(kind: str, *, address: str | None) -> None:
    """Refuse an unknown executor.

    Args:
        kind: "local" or "ray".
        address: of a running Ray cluster.

    Raises:
        ConfigError: another kind, or an address for "local".
    """
    if kind not in EXECUTORS:
        raise ConfigError(f"engine {kind!r} is unknown; choose {' or '.join(EXECUTORS)}")
    if kind == "local" and address is not None:
        raise ConfigError("an --address is of a Ray cluster; add --engine ray")


@contextmanager
def open_executor(kind: str, *, jobs: int | None = None, address: str | None = None) -> Iterator[Executor]:
    """An executor, closed at the end of `with`.

    Args:
        kind: "local" or "ray".
        jobs: tasks at a time; `None` = one per core.
        address: of a running Ray cluster; `None` starts one on this machine.

    Raises:
        ConfigError: another kind, an address for "local", or no cluster at the address.
        ModuleNotFoundError: ray is not installed.
    """
    check_executor(kind, address=address)
    local = kind == "local"
    executor: Executor = LocalExecutor(jobs or os.cpu_count() or 1) if local else RayExecutor(jobs, address)
    try:
        yield executor
    finally:
        executor.close()


@dataclass
class _Worker:
    process: BaseProcess
    link: Connection
    task: Task | None = None
    last: Training | None = None


class LocalExecutor:
    """Processes of this machine, each on one thread; one that dies loses its task only.

    Args:
        slots: processes.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []

    def submit(self, task: Task) -> None:
        """Give a task to an idle process; one that scored the same model before, if there is one."""
        for worker in [one for one in self._workers if one.task is None and not one.process.is_alive()]:
            worker.link.close()
            self._workers.remove(worker)
        idle = [worker for worker in self._workers if worker.task is None] or [self._start()]
        worker = max(idle, key=lambda one: one.last == task.training)
        worker.link.send(task)
        worker.task, worker.last = task, task.training

    def wait(self) -> tuple[Task, Outcome]:
        """Wait until a process returns an outcome or dies."""
        busy = {worker.link: worker for worker in self._workers if worker.task is not None}
        worker = busy[wait(list(busy))[0]]  # type: ignore[index]
        task, worker.task = worker.task, None
        assert task is not None
        try:
            outcome: Outcome = worker.link.recv()
        except (EOFError, OSError):
            worker.process.join()
            self._workers.remove(worker)
            outcome = Outcome({}, error=_death_message(worker.process.exitcode or 0))
        return task, outcome

    def close(self) -> None:
        """End every process."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join()
            worker.link.close()
        self._workers.clear()

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs,), daemon=True)
        before = {name: os.environ.get(name) for name in ONE_THREAD | OWN_MODULES}
        os.environ.update(ONE_THREAD)  # read when the process loads its libraries
        os.environ.update(OWN_MODULES)
        try:
            process.start()
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        theirs.close()
        self._workers.append(_Worker(process, ours))
        return self._workers[-1]


def _serve(link: Connection) -> None:
    """A worker process: tasks in, outcomes out, until the link is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    from sentryfuse.progress import set_quiet

    set_quiet(True)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            task = link.recv()
        except (EOFError, OSError):
            return
        link.send(run_task(task))


def _end_with_parent() -> None:
    """End with the parent: a killed one cannot end its workers, which would go on training in its folder."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _death_message(code: int) -> str:
    how = f"by signal {-code}" if code < 0 else f"with code {code}"
    return f"its process ended {how}, perhaps for want of memory; repeat with fewer --jobs"


class RayExecutor:
    """A Ray cluster whose machines share the folders of data and models.

    Args:
        jobs: tasks at a time; `None` = one per CPU of the cluster.
        address: of a running cluster; `None` starts one on this machine.

    Raises:
        ConfigError: no cluster at the address.
    """

    def __init__(self, jobs: int | None, address: str | None) -> None:
        self._ray: Any = import_module("ray")
        _check_address(address)
        own = {} if address else {"num_cpus": jobs, "include_dashboard": False}
        try:
            # workers look for modules in the folder this is called in, whatever their environment says
            with chdir(PACKAGES):
                self._ray.init(
                    address=address or "local",
                    log_to_driver=False,
                    logging_level="error",
                    runtime_env={"env_vars": ONE_THREAD | OWN_MODULES},
                    **own,
                )
        except (ConnectionError, ValueError, RuntimeError, self._ray.exceptions.RayError) as error:
            reason = str(error).split("\n")[0]
            raise ConfigError(f"Ray cannot be used at {address or 'this machine'}: {reason}") from error
        self.slots = jobs or max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        self._run_task = self._ray.remote(num_cpus=1, max_retries=0)(run_task)
        self._flying: dict[Any, Task] = {}

    def submit(self, task: Task) -> None:
        """Hand a task to the cluster."""
        self._flying[self._run_task.remote(task)] = task

    def wait(self) -> tuple[Task, Outcome]:
        """Wait until a task is done."""
        (done,), _ = self._ray.wait(list(self._flying), num_returns=1)
        task = self._flying.pop(done)
        try:
            outcome: Outcome = self._ray.get(done)
        except self._ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[0]
            outcome = Outcome({}, error=f"Ray lost it ({reason}); repeat the command")
        return task, outcome

    def close(self) -> None:
        """Leave the cluster; what this process started ends with it."""
        for handle in self._flying:
            self._ray.cancel(handle, force=True)
        self._ray.shutdown()


def _check_address(address: str | None) -> None:
    """Refuse an address where nothing listens; Ray would try it for ten minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return  # such as `auto`, which Ray resolves by itself
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"no Ray cluster answers at {address} ({error}); start one with `ray start --head`, or leave "
            "--address out"
        ) from None
