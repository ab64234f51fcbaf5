"""The closed list of operators: what the exporter writes, and their nearest relatives.

Each has a rule that says what it makes of the sizes of what it is given; whole numbers that are known are
computed, since sizes follow from them.
"""

from sentryfuse.bundle import arithmetic, arrangement  # each puts its operators on the list
from sentryfuse.bundle.rules import ATTRIBUTES, FLAGS, KINDS, OPERATORS, Shape, Value

__all__ = ["ATTRIBUTES", "FLAGS", "KINDS", "OPERATORS", "Shape", "Value", "arithmetic", "arrangement"]
