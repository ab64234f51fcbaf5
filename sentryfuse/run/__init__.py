"""A bundle -> answers, on the device, without torch.

`assemble` strings the graphs of a plan together, `session` answers with them, `predict` does so for
a whole recording, `replay` window by window while sensors and budget change, `bench` times it, and `profile`
measures what any plan takes on this device.
"""

from sentryfuse.run.bench import bench
from sentryfuse.run.predict import predict
from sentryfuse.run.profiling import profile
from sentryfuse.run.replay import Change, replay
from sentryfuse.run.session import Session

__all__ = ["Change", "Session", "bench", "predict", "profile", "replay"]
