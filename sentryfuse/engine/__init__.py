"""Layout + plan + weights -> one graph -> a session that answers, on the device, without torch.

`engines` build graphs, `session` answers with one sub-network, `sessions` keeps the latest warm.
"""

from sentryfuse.engine.engines import Engine, list_engines, register_engine
from sentryfuse.engine.session import Session
from sentryfuse.engine.sessions import Sessions

__all__ = ["Engine", "Session", "Sessions", "list_engines", "register_engine"]
