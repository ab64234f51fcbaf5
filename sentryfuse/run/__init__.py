"""A bundle -> answers, on the device, without torch.

`assemble` strings the graphs of a plan together (`fold`, `recipe`, `fuse` and `wire` make that quick),
`engines` build them, `session` answers, `sessions` keeps the latest warm. `predict` answers for a whole
recording, `replay` window by window while sensors and budget change, `bench` times it, and `profile`
measures what any plan takes on this device.
"""

from sentryfuse.run.bench import bench
from sentryfuse.run.predict import predict
from sentryfuse.run.profiling import profile
from sentryfuse.run.replay import Change, replay
from sentryfuse.run.session import Session
from sentryfuse.run.sessions import Sessions

__all__ = ["Change", "Session", "Sessions", "bench", "predict", "profile", "replay"]
