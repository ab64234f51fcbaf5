"""Files of loggers, frames and arrays come in, windows go out.

`guess` looks at files and writes a recipe, `make` cuts windows by it. `dialect` and `tables` read files in
blocks (pyarrow, and why, stands in `tables`), `columns` turns cells into numbers, moments and words, `collect`
deals rows to recordings, `samples` keeps them in order of time, `cut` cuts, `deal` splits by subject, `store`
holds what was cut and writes the npz. `cases` takes what is cut already: `.ts` files and arrays of windows.
More than eight files, since each of those steps is one subject. pyarrow is loaded when a file is read.
"""
