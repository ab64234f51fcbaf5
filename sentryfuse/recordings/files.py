"""The files of a recipe: which there are, what their names say, and reading them one after the other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from sentryfuse.errors import DataError
from sentryfuse.recordings.collect import Collector
from sentryfuse.recordings.recipe import Recipe, TableRecipe
from sentryfuse.recordings.samples import Storage
from sentryfuse.recordings.tables import open_table
from sentryfuse.recordings.waiting import Waiting


def files_of(recipe: Recipe) -> list[tuple[int, Path, dict[str, str]]]:
    """Every file a recipe names: number of its table, path, what its name says.

    Raises:
        DataError: a pattern or name that finds nothing.
    """
    folder = Path(recipe.folder)
    found = []
    for number, entry in enumerate(recipe.table):
        paths: list[Path] = []
        for name in entry.files:
            plain = folder / name
            here = [plain] if plain.is_file() else sorted(p for p in _glob(folder, name) if p.is_file())
            if not here:
                raise DataError(
                    f"the recipe asks for {name!r} in {folder}, and there is no such file; mend `files`"
                )
            paths += [p for p in here if p not in paths]
        if not paths:
            raise DataError(f"table {number + 1} of recipe {recipe.name} names no file; add `files`")
        for path in paths:
            found.append((number, path, _groups(entry, path, folder)))
    return found


def collect(recipe: Recipe, files: Sequence[tuple[int, Path, dict[str, str]]], storage: Storage) -> Collector:
    """Read all files of a recipe, with a bar.

    Raises:
        DataError: a file that cannot be read.
    """
    collector = Collector(recipe, storage)
    sizes = [path.stat().st_size for _, path, _ in files]
    total = max(1, sum(sizes))
    with Waiting("read [MB]", max(1, total // 10**6)) as bar:
        before = 0
        for (number, path, groups), size in zip(files, sizes, strict=True):
            table = open_table(path, nulls=recipe.nulls)
            for _ in collector.take(number, table, groups):
                part = before + size * min(1.0, table.done / max(1, table.total))
                bar.update(int(part) // 10**6, path.name)
            before += size
            bar.update(before // 10**6, path.name)
    return collector


def _glob(folder: Path, pattern: str) -> Iterable[Path]:
    try:
        return list(folder.glob(pattern))
    except (ValueError, NotImplementedError) as error:
        raise DataError(f"the recipe's {pattern!r} is no pattern of files ({error}); mend `files`") from error


def _groups(entry: TableRecipe, path: Path, folder: Path) -> dict[str, str]:
    if not entry.pattern:
        return {}
    name = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name
    match = re.search(entry.pattern, name)
    if match is None:
        raise DataError(
            f"the pattern {entry.pattern!r} does not fit {name}; mend it, or leave that file out of `files`"
        )
    return {key: value for key, value in match.groupdict().items() if value}
