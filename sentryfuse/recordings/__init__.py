"""Files of loggers, frames and arrays come in, windows go out.

`guess` looks at files and writes a recipe, `make` cuts windows by it. `dialect` and `tables` read files in
blocks (pyarrow, and why, stands in `tables`), `columns` turns cells into numbers, moments and words,
`collect` deals rows to recordings, `samples` keeps them in order of time, `cut` cuts, `deal` splits by
subject, `store` holds what was cut and writes the npz. `cases` and `foreign` take arrays of others: `.ts`,
npz, npy; `arrays` is `make_windows`; `picture` draws.
More than eight files, since each of those steps is one subject. pyarrow is loaded when a file is read.
"""

from sentryfuse.recordings.arrays import make_windows
from sentryfuse.recordings.cases import make_cases, read_ts
from sentryfuse.recordings.foreign import windows_of_files
from sentryfuse.recordings.guess import CUT_ALREADY, Guess, guess
from sentryfuse.recordings.make import Made, make_file
from sentryfuse.recordings.recipe import Recipe, load_recipe, make_recipe, write_recipe

__all__ = [
    "CUT_ALREADY",
    "Guess",
    "Made",
    "Recipe",
    "guess",
    "load_recipe",
    "make_cases",
    "make_file",
    "make_recipe",
    "make_windows",
    "read_ts",
    "windows_of_files",
    "write_recipe",
]
