"""A bundle -> answers, on the device, without torch.

`assemble` strings the graphs of a plan together, `session` answers with them, `predict` does so for a whole
recording.
"""

from sentryfuse.run.predict import predict
from sentryfuse.run.session import Session

__all__ = ["Session", "predict"]
