"""What this device makes of a bundle: times, memory and energy of sub-networks. Torch-free.

`bench` times chosen sub-networks, `profiling` measures what any plan will take (`break_even` and
`consumption` are parts of it).
"""

from sentryfuse.measure.bench import bench
from sentryfuse.measure.profiling import profile

__all__ = ["bench", "profile"]
