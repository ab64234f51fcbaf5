"""A bundle -> answers, on the device, without torch.

`assemble` strings the graphs of a plan together (`fold`, `recipe`, `fuse` and `wire` make that quick),
`engines` build them, `session` answers, `sessions` keeps the latest warm. `predict` answers a whole
recording, `runtime` a stream, `replay` a recording by a schedule of sensors and budgets. `bench` times
sub-networks, and `profile` measures what any plan takes on this device.
"""

from sentryfuse.run.bench import bench
from sentryfuse.run.events import Events
from sentryfuse.run.predict import predict
from sentryfuse.run.profiling import profile
from sentryfuse.run.replay import Change, replay
from sentryfuse.run.result import Result, Status
from sentryfuse.run.runtime import Runtime
from sentryfuse.run.session import Session
from sentryfuse.run.sessions import Sessions

__all__ = [
    "Change",
    "Events",
    "Result",
    "Runtime",
    "Session",
    "Sessions",
    "Status",
    "bench",
    "predict",
    "profile",
    "replay",
]
