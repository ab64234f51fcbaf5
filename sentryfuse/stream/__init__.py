"""Samples of sensors as they come -> windows a model can take, on the device, without torch.

A source (`open_source`: a replayed recording, MQTT, LSL) gives packets. The `Cutter` puts them on each
sensor's own grid and cuts windows by our own monotonic clock; `HealthRules` say when a sensor is used.
One file per subject: `buffer`, `clock`, `grid` and `health` know one sensor each, `sensor` joins
them, `table` and `payload` read formats, and every transport has its own.
"""

from sentryfuse.stream.cutter import Cutter, CutWindow
from sentryfuse.stream.health import HealthRules, Verdict, read_rules
from sentryfuse.stream.packet import Packet, Source, window_length_s
from sentryfuse.stream.publishing import open_publisher
from sentryfuse.stream.schemes import register_source
from sentryfuse.stream.source import open_source

__all__ = [
    "CutWindow",
    "Cutter",
    "HealthRules",
    "Packet",
    "Source",
    "Verdict",
    "open_publisher",
    "open_source",
    "read_rules",
    "register_source",
    "window_length_s",
]
