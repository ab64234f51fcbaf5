"""Is it worth it? A bundle beside what a user would pick instead, on the same windows and sensors.

`features` are the window statistics that the rivals see, `models` the rivals (scikit-learn, extra `compare`),
`timing` takes one window at a time, `rows` scores ours and theirs, `verdict` says in a sentence who is ahead,
and `comparison` puts them together. A bundle is compared without torch.
"""

from sentryfuse.rivals.comparison import Comparison, compare
from sentryfuse.rivals.models import RIVALS

__all__ = ["RIVALS", "Comparison", "compare"]
