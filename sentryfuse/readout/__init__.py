"""An answer in closed form for exactly the sensors present, from window statistics.

In come features of `sentryfuse.statistics`; out come log probabilities of the classes. `fit_readout` is the
training side (trees need scikit-learn, imported when they are grown); `Readout` runs on the device with numpy
alone.
"""

from __future__ import annotations

from sentryfuse.readout.encode import Person, person_moments
from sentryfuse.readout.fit import Fit, fit_readout
from sentryfuse.readout.mixture import Mixture, fit_weights
from sentryfuse.readout.person import PersonFeatures
from sentryfuse.readout.readout import Readout, Solved

__all__ = [
    "Fit",
    "Mixture",
    "Person",
    "PersonFeatures",
    "Readout",
    "Solved",
    "fit_readout",
    "fit_weights",
    "person_moments",
]
