"""The order of jobs: a model before its evaluations, nothing twice; a failure does not stop the rest."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from sentryfuse.errors import ConfigError
from sentryfuse.model.pretrained import create_model
from sentryfuse.progress import Progress, say
from sentryfuse.study.design import StudyDesign
from sentryfuse.study.executors import Executor, check_executor, open_executor
from sentryfuse.study.jobs import Evaluation, Training, data_digests, evaluations, trainings
from sentryfuse.study.methods import check_methods
from sentryfuse.study.store import OUTDATED, Store
from sentryfuse.study.tasks import Outcome, Task
from sentryfuse.types import Modality

FAILURES = "failures"


@dataclass(frozen=True)
class TrainingJobs:
    """A training, and the evaluations of its model."""

    training: Task
    evaluations: tuple[Task, ...]

    @property
    def lines(self) -> Iterator[dict[str, Any]]:
        """What is known of its lines before they are computed."""
        for task in self.evaluations:
            assert isinstance(task.job, Evaluation)
            yield from map(task.job.line, task.places)

    def __len__(self) -> int:
        """Jobs in it."""
        return 1 + len(self.evaluations)


@dataclass
class Report:
    """What came of a study.

    Attributes:
        found: lines that were there before.
        lines: lines that were computed.
        failed: name and sentence of every job that failed or had to be left out.
    """

    found: int = 0
    lines: int = 0
    failed: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Workers:
    """Where jobs run, and the folders they read and write.

    Attributes:
        data: folder of the recordings; not needed for embedded ones.
        runs: folder of the trained models; finished ones are used, others made.
        engine: "local" or "ray".
        jobs: jobs at a time; `None` = one per core.
        address: of a running Ray cluster.
        only: part of the names of the trainings wanted.
    """

    data: Path | None
    runs: Path
    engine: str = "local"
    jobs: int | None = None
    address: str | None = None
    only: str = ""

    def open(self) -> AbstractContextManager[Executor]:
        """The executor, closed at the end of `with`."""
        return open_executor(self.engine, jobs=self.jobs, address=self.address)


def run_study(folder: Path, design: StudyDesign, workers: Workers, *, trainings_only: bool = False) -> Report:
    """Compute what is missing.

    Args:
        folder: of the results; made if it is not there.
        design: what is compared.
        workers: where jobs run.
        trainings_only: make models and score none.

    Raises:
        ConfigError: an unknown name, a recording that is not there, or a folder of another study.
    """
    every = all_jobs(design, workers)
    with Store(folder, design) as store:
        if n := store.set_aside(line for item in every for line in item.lines):
            say(f"{n} lines were made by another version and are computed again; they are now in {OUTDATED}")
        if trainings_only:
            work = [replace(item, evaluations=()) for item in every]
        else:
            work = choose(every, lambda key: key not in store.keys)
        report = Report(found=len(store.lines))

        def take(task: Task, outcome: Outcome) -> str | None:
            there = store.model_of(task.training)
            if there not in (None, outcome.facts["model"]):
                return (
                    f"its lines were made with the model {there}, and this one is {outcome.facts['model']}; "
                    "put that model into --runs, or delete the lines of this training"
                )
            store.add(outcome.lines, outcome.answers, outcome.facts)
            report.lines += len(outcome.lines)
            return None

        if work:
            with workers.open() as executor:
                past, failures = list(store.times), folder / FAILURES
                report.failed = run_all(work, executor, take, past=past, failures=failures)
    return report


def check_design(design: StudyDesign) -> None:
    """Refuse unknown names before an hour is lost.

    Raises:
        ConfigError: an unknown backbone, preset, scorer, allocation or repair.
    """
    check_methods(design.methods)
    for backbone in design.backbones:
        create_model(
            backbone,
            modalities=[Modality("any", 1.0, 64, ("x",))],
            classes=("a", "b"),
            preset=design.preset,
            attention=design.attention,
        )


def all_jobs(design: StudyDesign, workers: Workers) -> list[TrainingJobs]:
    """Every training that is wanted, with everything that is computed of its model.

    Raises:
        ConfigError: an unknown name, or a recording that is not there.
    """
    check_executor(workers.engine, address=workers.address)
    check_design(design)
    names = {training.dataset for training in trainings(design, {}, only=workers.only)}
    digests = data_digests(design, workers.data, sorted(names))
    found = []
    for training in trainings(design, digests, only=workers.only):
        where = (design.datasets[training.dataset].file, workers.data, workers.runs)
        tasks = (Task(job, job.places, *where) for job in evaluations(design, training))
        found.append(TrainingJobs(Task(training, (), *where), tuple(tasks)))
    return found


def choose(work: Sequence[TrainingJobs], wanted: Callable[[str], bool]) -> list[TrainingJobs]:
    """The part of the work whose line keys are wanted."""
    found = []
    for item in work:
        tasks = []
        for task in item.evaluations:
            keyed = zip(task.places, task.line_keys, strict=True)
            places = tuple(place for place, key in keyed if wanted(key))
            tasks += [replace(task, places=places)] if places else []
        found += [replace(item, evaluations=tuple(tasks))] if tasks else []
    return found


def run_all(
    work: Sequence[TrainingJobs],
    executor: Executor,
    take: Callable[[Task, Outcome], str | None],
    *,
    past: Sequence[dict[str, Any]] = (),
    failures: Path | None = None,
) -> list[dict[str, str]]:
    """Run all tasks, those of one model in one process where possible: its methods share what they look at.

    Args:
        work: what to do, in this order.
        executor: runs it.
        take: gets every outcome that is not a failure; returns why it cannot be used, or `None`.
        past: times of finished jobs, for the time left.
        failures: folder for tracebacks.

    Returns:
        Name and error of every job that failed, and of every model whose evaluations were left out.
    """
    waiting, ready = deque(work), dict[Training, deque[Task]]()
    last: Training | None = None
    of_training = {item.training: item for item in work}
    failed: list[dict[str, str]] = []
    clock = _Clock(past)
    n_jobs, n_done, flying = sum(map(len, work)), 0, set[Task]()
    with Progress("study", n_jobs, even=False) as bar:
        while waiting or ready or flying:
            while len(flying) < executor.slots and (ready or waiting):
                task = _next(waiting, ready, busy={one.training for one in flying}, last=last)
                executor.submit(task)
                flying.add(task)
            task, outcome = executor.wait()
            flying.remove(task)
            last = task.training
            n_done += 1
            own = of_training.get(task)
            if outcome.error is None and (refused := take(task, outcome)):
                outcome = Outcome(outcome.facts, error=refused)
            if outcome.error is not None:
                n_done += len(own.evaluations) if own else 0
                failed.append({"name": task.job.name, "error": _failure_text(task, outcome, failures)})
                say(f"failed: {task.job.name}: {failed[-1]['error']}")
            else:
                clock.add(outcome.facts)
                if own and own.evaluations:
                    ready[task.training] = deque(own.evaluations)
            soon = (t for tasks in ready.values() for t in tasks)
            left = [*flying, *soon, *(t for item in waiting for t in (item.training, *item.evaluations))]
            bar.update(n_done, task.job.name, left_s=clock.left_s(left, executor.slots))
    return failed


def _next(
    waiting: deque[TrainingJobs],
    ready: dict[Training, deque[Task]],
    *,
    busy: Collection[Training],
    last: Training | None,
) -> Task:
    """The task that runs next.

    A method of the model scored last, or of one that no process scores; else a training; else any method.
    """
    models = [last] if last in ready else [model for model in ready if model not in busy]
    if not models and waiting:
        return waiting.popleft().training
    model = next(iter([*models, *ready]))
    assert model is not None
    task = ready[model].popleft()
    if not ready[model]:
        del ready[model]
    return task


def _failure_text(task: Task, outcome: Outcome, failures: Path | None) -> str:
    """The error in a sentence; a traceback goes into a file."""
    if outcome.trace is None or failures is None:
        return str(outcome.error)
    path = failures / f"{task.job.name.replace('/', '-').replace(' ', '_')}.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text(outcome.trace, encoding="utf-8")
    return f"{outcome.error}; {path} says where"


class _Clock:
    """Estimates the time left from finished jobs of the same kind."""

    def __init__(self, past: Sequence[dict[str, Any]]) -> None:
        self._seconds: dict[tuple[str, ...], list[float]] = defaultdict(list)
        for facts in past:
            self.add(facts)

    def add(self, facts: Any) -> None:
        if facts.get("found"):
            return  # a model that was there took no training
        for kind in self._kinds(facts["kind"], facts["backbone"], facts["dataset"]):
            self._seconds[kind].append(facts["seconds"])

    def left_s(self, tasks: Sequence[Task], slots: int) -> float | None:
        """Seconds for all tasks, or `None` where a kind has not been seen."""
        total = 0.0
        for task in tasks:
            kinds = self._kinds(task.kind, task.training.backbone, task.training.dataset)
            known = next((self._seconds[kind] for kind in kinds if kind in self._seconds), None)
            if known is None:
                return None
            total += fmean(known)
        return total / slots

    @staticmethod
    def _kinds(kind: str, backbone: str, dataset: str) -> list[tuple[str, ...]]:
        return [(kind, backbone, dataset), (kind, dataset), (kind,)]


def refuse_failures(failed: Sequence[dict[str, str]]) -> None:
    """Say what failed, in one sentence.

    Raises:
        ConfigError: anything did.
    """
    if failed:
        raise ConfigError(
            f"{len(failed)} job{'s' * (len(failed) > 1)} failed, the first was {failed[0]['name']}: "
            f"{failed[0]['error']}; mend that and repeat the command, which does only what is missing"
        )
