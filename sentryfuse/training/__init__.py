"""Windows and a fresh model -> a trained one, in one loop: task, gate, sensor dropout, elastic steps.

Needs torch.
"""

from sentryfuse.training.loop import fine_tune, train
from sentryfuse.training.settings import TrainSettings

__all__ = ["TrainSettings", "fine_tune", "train"]
