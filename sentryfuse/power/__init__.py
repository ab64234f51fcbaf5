"""How much may be spent: meters -> readings -> a budget for the next window, without torch.

A file per kind of meter (`rapl`, `ina3221`, `battery`, `nvml`, `trace`, `callback`, `modelled`), so that
each can be read beside its kernel documentation; `reader` chooses among them and goes down a level when
one fails, `energy` measures a piece of work, `policy` is the user's table, `governor` follows it.
"""

from sentryfuse.power.callback import CallbackMeter
from sentryfuse.power.energy import EnergyFigure, EnergyMeter, EnergyWindow, energy_per_piece
from sentryfuse.power.governor import Decision, Governor
from sentryfuse.power.policy import Level, Policy, read_policy
from sentryfuse.power.reader import LadderReader, open_reader, register_meter
from sentryfuse.power.reading import Meter, MeterImplausible, MeterUnavailable, PowerReader, Reading

__all__ = [
    "CallbackMeter",
    "Decision",
    "EnergyFigure",
    "EnergyMeter",
    "EnergyWindow",
    "Governor",
    "LadderReader",
    "Level",
    "Meter",
    "MeterImplausible",
    "MeterUnavailable",
    "Policy",
    "PowerReader",
    "Reading",
    "energy_per_piece",
    "open_reader",
    "read_policy",
    "register_meter",
]
