"""The reliability campaign: many runs of what could go wrong, counted.

A part is a module with `run(out, *, count, seed) -> dict` and a constant `FULL`, the count behind the figures
of docs/reliability.md. `out` is the result file, docs/results/reliability/PART.json; a part writes it as it
goes and can be killed: asked again for the same seed, it goes on where it was. What must be 0 stands under
`wrong`, a name and a number each; `done`, `seconds`, `commit` are beside it (`record.Record` keeps them). A
part may have `table(result)`, its table in markdown; without one every number of its result is listed
(`benchmarks/tables/reliability.py`). Parts import what they need beyond the standard library when they run.
"""
