"""Windows in, answers out, with the sub-network that fits: a recording or a running stream. Torch-free.

`predict` answers a whole recording, `replay` one by a schedule of sensors and budgets, `runtime` a stream:
`answering` one window of it, with the sub-network in force (`serving`), the sensors present (`sensors`), the
statistics of the person (`person`) and the latency so far (`pace`). `result` and `events` are what comes out.
More than eight files, because each is one of these parts.
"""

from sentryfuse.runtime.events import Events
from sentryfuse.runtime.predict import predict
from sentryfuse.runtime.replay import Change, replay
from sentryfuse.runtime.result import Result, Status
from sentryfuse.runtime.runtime import Runtime

__all__ = ["Change", "Events", "Result", "Runtime", "Status", "predict", "replay"]
