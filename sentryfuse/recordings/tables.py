"""Tables in blocks: CSV and its relatives, Parquet, data frames; never a whole file in memory.

pyarrow reads them. Against polars, which was the other candidate (both have wheels for every platform, about
170 MB installed; MIT against Apache-2.0): `pyarrow.csv.open_csv` takes any stream of bytes and gives one
block after the other, so UTF-16, comments, preambles and gzip are cleaned on the way and memory stays at a
few blocks; it hands over rows of another width one by one, so that they can be counted. polars reads UTF-16
and streams of bytes only as a whole, and its streaming engine decides by itself how much it holds. Frames of
pandas and polars come in through Arrow's own protocol, without either being needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from sentryfuse.errors import DataError
from sentryfuse.recordings.columns import first_line
from sentryfuse.recordings.dialect import NULLS, Dialect, find_dialect, open_clean

if TYPE_CHECKING:
    import pyarrow as pa

Kind = Literal["number", "text"]
BLOCK_BYTES = 4 << 20  # of a text table, at once
BLOCK_ROWS = 1 << 16  # of any other table, at once
TEXTS = frozenset({".csv", ".tsv", ".txt", ".tab", ".dat"})
PARQUET = frozenset({".parquet", ".pq"})


class Table(Protocol):
    """Anything with named columns that comes in blocks.

    Attributes:
        name: for messages.
        columns: their names, in order.
        total: how much there is, in any unit; `done` says how much has been read.
        ragged: rows left out so far because they have another number of cells.
    """

    name: str
    columns: tuple[str, ...]
    total: int
    done: int
    ragged: int

    def blocks(self, wanted: Mapping[str, Kind]) -> Iterator[pa.RecordBatch]:
        """The columns wanted, block by block; a column of kind "text" may come as anything but codes."""
        ...


class CsvTable:
    """A text table; see `Table`.

    Args:
        path: the file.
        nulls: words that mean "not measured", beside the usual ones.

    Raises:
        DataError: not a text table.
    """

    def __init__(self, path: Path, *, nulls: Sequence[str] = ()) -> None:
        self.path = path
        self.name = str(path)
        self.dialect: Dialect = find_dialect(path)
        self.columns = self.dialect.header
        self.total = path.stat().st_size
        self.done = 0
        self.ragged = 0
        # Arrow takes outer spaces off numbers, though not off these words
        self._nulls = [f"{a}{word}{b}" for word in (*NULLS, *nulls) for a in ("", " ") for b in ("", " ")]

    def blocks(self, wanted: Mapping[str, Kind]) -> Iterator[pa.RecordBatch]:
        """The columns wanted, block by block."""
        import pyarrow as pa
        import pyarrow.csv as csv

        kinds = {"number": pa.float64(), "text": pa.string()}
        self.ragged = 0
        stream = open_clean(self.path, self.dialect)
        inner: Any = stream.raw  # type: ignore[attr-defined]
        try:
            reader = csv.open_csv(
                stream,
                read_options=csv.ReadOptions(
                    column_names=list(self.columns), block_size=BLOCK_BYTES, use_threads=False
                ),
                parse_options=csv.ParseOptions(
                    delimiter=self.dialect.separator, invalid_row_handler=self._other_width
                ),
                convert_options=csv.ConvertOptions(
                    include_columns=list(wanted),
                    column_types={name: kinds[kind] for name, kind in wanted.items()},
                    null_values=self._nulls,
                    strings_can_be_null=True,
                    decimal_point=self.dialect.decimal,
                ),
            )
            for batch in reader:
                if batch.num_rows:
                    self.done = inner.tell_read()
                    yield batch
            self.done = self.total
        except pa.ArrowInvalid as error:
            raise DataError(self._sentence(error, list(wanted))) from error
        finally:
            stream.close()

    def _other_width(self, row: Any) -> str:
        self.ragged += 1
        return "skip"

    def _sentence(self, error: Exception, columns: Sequence[str]) -> str:
        first = first_line(error)
        if "UTF8" in first:
            return f"{self.name} is no UTF-8 further down, though it begins so; save it as UTF-8"
        if "CSV conversion error" in first and "#" in first:
            place = first.split("#", 1)[1].split(":")[0]
            value = first.split("'")[-2][:60] if first.count("'") >= 2 else "text"
            column = self._column(place, columns)
            return (
                f"{self.name}: the column {column!r} holds {value!r}, which is no number; leave the column "
                "out of the recipe, or list that word under `nulls` if it means 'not measured'"
            )
        return f"{self.name} cannot be read as a table ({first[:120]}); mend it"

    def _column(self, place: str, columns: Sequence[str]) -> str:
        number = int(place) if place.isdecimal() else -1
        return self.columns[number] if 0 <= number < len(self.columns) else "?"


class ParquetTable:
    """A Parquet file; see `Table`.

    Args:
        path: the file.

    Raises:
        DataError: not a Parquet file.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.path = path
        self.name = str(path)
        try:
            with pq.ParquetFile(path) as file:
                self.columns = tuple(file.schema_arrow.names)
                self.total = file.metadata.num_rows
        except FileNotFoundError as error:
            raise DataError(f"there is no file {path}; check the name") from error
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DataError(
                f"{path} is not a Parquet file or is damaged ({first_line(error)}); write it again"
            ) from error
        if not self.total:
            raise DataError(f"{path} holds no row; leave it out or record it again")
        self.done = 0
        self.ragged = 0

    def blocks(self, wanted: Mapping[str, Kind]) -> Iterator[pa.RecordBatch]:
        """The columns wanted, block by block."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.done = 0
        try:
            with pq.ParquetFile(self.path, pre_buffer=False) as file:
                for batch in file.iter_batches(BLOCK_ROWS, columns=list(wanted)):
                    batch.validate(full=True)  # text that is no UTF-8 is passed on unseen
                    self.done += batch.num_rows
                    yield batch
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DataError(f"{self.path} is damaged ({first_line(error)}); write it again") from error


class FrameTable:
    """A frame of pandas or polars, or an Arrow table; see `Table`.

    Args:
        frame: with `__arrow_c_stream__`, as frames of pandas >= 2.2, polars >= 1 and pyarrow have.
        name: for messages.

    Raises:
        DataError: a frame that Arrow cannot take, or without rows.
    """

    def __init__(self, frame: Any, name: str) -> None:
        import pyarrow as pa

        self.name = name
        try:
            table = pa.table(frame)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise DataError(
                f"{name} cannot be taken as a table ({first_line(error)}); give columns of numbers, texts "
                "and times"
            ) from error
        # the index of a pandas frame, where it is no column of its own, is worth something if it holds times
        unnamed = [
            field.name
            for field in table.schema
            if field.name.startswith("__index_level_") and not pa.types.is_timestamp(field.type)
        ]
        table = table.drop_columns(unnamed)
        if not table.num_rows:
            raise DataError(f"{name} holds no row; give at least one")
        self._table = table
        self.columns = tuple(str(column) for column in table.column_names)
        self.total = table.num_rows
        self.done = 0
        self.ragged = 0

    def blocks(self, wanted: Mapping[str, Kind]) -> Iterator[pa.RecordBatch]:
        """The columns wanted, block by block."""
        self.done = 0
        for batch in self._table.select(list(wanted)).to_batches(max_chunksize=BLOCK_ROWS):
            self.done += batch.num_rows
            yield batch


def open_table(path: Path, *, nulls: Sequence[str] = ()) -> CsvTable | ParquetTable:
    """A file as a table, by its suffix.

    Args:
        path: CSV, TSV or any text table (also with `.gz`), or Parquet.
        nulls: words that mean "not measured" in text tables, beside the usual ones.

    Raises:
        DataError: no such file, another kind of file, or one that cannot be read.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder; give files, or let `sentryfuse data guess {path}` look at it")
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if suffix.lower() in PARQUET:
        return ParquetTable(path)
    if suffix.lower() in TEXTS:
        return CsvTable(path, nulls=nulls)
    if not path.exists():
        raise DataError(f"there is no file {path}; check the name")
    raise DataError(
        f"{path} is no table that can be read; give CSV, TSV, Parquet, npz, npy or ts files (a text table "
        "under another name: rename it to .csv)"
    )
