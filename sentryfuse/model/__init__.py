"""Windows -> logits: backbones made of the same prunable blocks, each described by its layout.

Needs torch.
"""

from sentryfuse.model import flexmoe as _flexmoe  # registers itself, as do the next
from sentryfuse.model import maestro as _maestro
from sentryfuse.model import mult as _mult
from sentryfuse.model.attention import Selection
from sentryfuse.model.backbone import Backbone
from sentryfuse.model.encoder import Encoder
from sentryfuse.model.registry import backbone_type, list_models, register_model

del _flexmoe, _maestro, _mult

__all__ = ["Backbone", "Encoder", "Selection", "backbone_type", "list_models", "register_model"]
