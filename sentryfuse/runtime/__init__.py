"""Windows in, answers out, with the sub-network that fits: a recording or a running stream. Torch-free.

`predict` answers a whole recording, `runtime` a stream (`serving` has the sub-network in force, `sensors`,
`person` and `pace` what it is told by), `replay` a recording by a schedule of sensors and budgets.
"""

from sentryfuse.runtime.events import Events
from sentryfuse.runtime.predict import predict
from sentryfuse.runtime.replay import Change, replay
from sentryfuse.runtime.result import Result, Status
from sentryfuse.runtime.runtime import Runtime

__all__ = ["Change", "Events", "Result", "Runtime", "Status", "predict", "replay"]
