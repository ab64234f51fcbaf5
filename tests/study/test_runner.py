"""The order of jobs: nothing is left out, and one process scores a model while the others have work."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from sentryfuse.study.design import StudyDesign
from sentryfuse.study.executors import Executor
from sentryfuse.study.jobs import evaluations, trainings
from sentryfuse.study.runner import TrainingJobs, run_all
from sentryfuse.study.tasks import Outcome, Task

DESIGN = StudyDesign.from_json(
    {
        "backbones": ["maestro", "mult"],
        "datasets": {"a": {"turns": [{"seed": 0}, {"seed": 1}]}},
        "trainings": ["plain"],
        "ratios": [0.4],
        "missing_rates": [0.0],
        "protocols": ["present"],
        "methods": [{"scorer": name} for name in ("gate", "magnitude", "taylor", "random")],
    }
)


class InTurn(Executor):
    """Does nothing, and is done with what it was given first."""

    def __init__(self, slots: int) -> None:
        self.slots, self.flying, self.log = slots, deque[Task](), list[list[Task]]()

    def submit(self, task: Task) -> None:
        self.flying.append(task)
        self.log.append(list(self.flying))

    def wait(self) -> tuple[Task, Outcome]:
        task = self.flying.popleft()
        job = task.training
        facts = {"kind": task.kind, "backbone": job.backbone, "dataset": job.dataset, "seconds": 1.0}
        return task, Outcome(facts)

    def close(self) -> None:
        pass


def all_jobs() -> list[TrainingJobs]:
    found = []
    for job in trainings(DESIGN, {}):
        tasks = tuple(Task(one, one.places, None, None, Path()) for one in evaluations(DESIGN, job))
        found.append(TrainingJobs(Task(job, (), None, None, Path()), tasks))
    return found


def run(slots: int) -> InTurn:
    engine, work = InTurn(slots), all_jobs()
    done: list[Task] = []
    assert run_all(work, engine, lambda task, _: done.append(task)) == []
    assert len(done) == len(set(done)) == sum(map(len, work))
    for item in work:
        assert all(done.index(item.training) < done.index(task) for task in item.evaluations)
    return engine


def test_one_process_makes_a_model_and_scores_it_before_the_next():
    order = [flying[0].training for flying in run(1).log]
    assert order == [job for item in all_jobs() for job in [item.training.job] * len(item)]


def test_two_processes_score_two_models_while_there_are_two():
    shared = [
        flying for flying in run(2).log if len(flying) == 2 and flying[0].training == flying[1].training
    ]
    assert shared == [], "four models, two processes: never both at one"


def test_more_processes_than_models_share_them():
    most = max(run(7).log, key=len)
    assert len(most) == 7 > len({task.training for task in most})
