"""Windows and a fresh model -> a trained one, in one loop: task, gate, sensor dropout, elastic steps.

Needs torch.
"""

from sentryfuse.training.callbacks import Callback
from sentryfuse.training.fine_tuning import fine_tune
from sentryfuse.training.loop import train
from sentryfuse.training.settings import TrainSettings

__all__ = ["Callback", "TrainSettings", "fine_tune", "train"]
