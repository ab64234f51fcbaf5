"""How much may be spent: meters -> readings, without torch.

A file per kind of meter (`rapl`, `ina3221`, `battery`, `nvml`, `trace`, `callback`, `modelled`), so that
each can be read beside its kernel documentation; `reader` chooses among them and goes down a level when
one fails.
"""

from sentryfuse.power.callback import CallbackMeter
from sentryfuse.power.reader import LadderReader, open_reader
from sentryfuse.power.reading import Meter, MeterLies, MeterTrouble, PowerReader, Reading

__all__ = [
    "CallbackMeter",
    "LadderReader",
    "Meter",
    "MeterLies",
    "MeterTrouble",
    "PowerReader",
    "Reading",
    "open_reader",
]
