"""Windows in, answers out, with the sub-network that fits: a recording or a running stream. Torch-free.

`predict` answers a whole recording (of windows, or cut from CSV by `cutting`; `answers` go into a file),
`score` compares answers with labels, `replay` answers by a schedule of sensors and budgets, `runtime` a
stream:
`answering` one window of it, with the sub-network in force (`serving`), the sensors present (`sensors`), the
statistics of the person (`person`) and the latency so far (`pace`). `result` and `events` are what comes out.
More than eight files, because each is one of these parts.
"""

from sentryfuse.runtime.answers import Answers
from sentryfuse.runtime.events import Events
from sentryfuse.runtime.predict import answer_windows, predict
from sentryfuse.runtime.replay import Change, replay
from sentryfuse.runtime.result import Result, Status
from sentryfuse.runtime.runtime import Runtime
from sentryfuse.runtime.score import score

__all__ = [
    "Answers",
    "Change",
    "Events",
    "Result",
    "Runtime",
    "Status",
    "answer_windows",
    "predict",
    "replay",
    "score",
]
