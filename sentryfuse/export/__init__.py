"""A trained model -> a bundle: graphs with no width baked in (`templates`), packed and checked (`pack`).

Needs torch.
"""

from sentryfuse.export.pack import export_bundle

__all__ = ["export_bundle"]
