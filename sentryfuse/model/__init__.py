"""Windows -> logits: backbones made of the same prunable blocks, each described by its layout.

The names here are what a backbone of one's own is made of; docs/own_backbone.md shows one. Needs torch.
"""

from sentryfuse.model import flexmoe as _flexmoe  # registers itself, as do the next
from sentryfuse.model import maestro as _maestro
from sentryfuse.model import mult as _mult
from sentryfuse.model.attention import Selection
from sentryfuse.model.backbone import Backbone
from sentryfuse.model.call import Call
from sentryfuse.model.constants import Bank
from sentryfuse.model.converted import copy_encoder, encoder_options
from sentryfuse.model.encoder import Encoder
from sentryfuse.model.heads import LinearHead, MeanHead, ModalityHead
from sentryfuse.model.joins import Concat, Mean, Norm
from sentryfuse.model.layer import Layer, LayerShape
from sentryfuse.model.registry import backbone_type, list_models, register_model
from sentryfuse.model.shape import LayerMaker, Sizes, module_keys
from sentryfuse.model.tokens import Normalise, PatchTokens

del _flexmoe, _maestro, _mult

__all__ = [
    "Backbone",
    "Bank",
    "Call",
    "Concat",
    "Encoder",
    "Layer",
    "LayerMaker",
    "LayerShape",
    "LinearHead",
    "Mean",
    "MeanHead",
    "ModalityHead",
    "Norm",
    "Normalise",
    "PatchTokens",
    "Selection",
    "Sizes",
    "backbone_type",
    "copy_encoder",
    "encoder_options",
    "list_models",
    "module_keys",
    "register_model",
]
