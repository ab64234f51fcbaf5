"""Text tables of every make are read the same."""

from __future__ import annotations

import gzip
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfuse.errors import DataError
from sentryfuse.recordings.columns import numbers, words
from sentryfuse.recordings.dialect import find_dialect, is_number
from sentryfuse.recordings.look import look
from sentryfuse.recordings.tables import CsvTable, open_table

PLAIN = "time,x,label\n0,1.5,walk\n1,-2,run\n2,,run\n"


def read(path, wanted):
    table = open_table(path)
    found: dict[str, list[Any]] = {name: [] for name in wanted}
    for block in table.blocks(wanted):
        for i, name in enumerate(block.schema.names):
            column = block.column(i)
            if wanted[name] == "number":
                found[name] += numbers("t", name, column).tolist()
            else:
                codes, names = words(column)
                found[name] += [names[c] if c >= 0 else None for c in codes]
    return found, table


def write(tmp_path, text, encoding="utf-8", name="t.csv"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding) if isinstance(text, str) else text)
    return path


WAYS = {
    "plain": PLAIN,
    "windows lines": PLAIN.replace("\n", "\r\n"),
    "old lines": PLAIN.replace("\n", "\r"),
    "no last line end": PLAIN.rstrip("\n"),
    "semicolons and decimal commas": PLAIN.replace(",", ";").replace("1.5", "1,5"),
    "tabs": PLAIN.replace(",", "\t"),
    "quoted": 'time,"x","label"\n0,"1.5","walk"\n1,"-2","run"\n2,,"run"\n',
    "comments": "# made by a logger\n# 50 Hz\n" + PLAIN.replace("1,-2", "# pause\n1,-2"),
    "a preamble": "Device: X\nFirmware: 3\n\n" + PLAIN,
    "a line of units": PLAIN.replace("label\n", "label\ns,m/s2,-\n"),
    "empty lines": PLAIN.replace("\n", "\n\n"),
    "spaces": PLAIN.replace(",", " , ").replace(" , ,", ",,"),
    "a plus": PLAIN.replace("1.5", "+1.5"),
    "NA": PLAIN.replace("2,,", "2,NA,"),
    "null": PLAIN.replace("2,,", "2,null,"),
    "NaN": PLAIN.replace("2,,", "2,NaN,"),
    "a separator at the end of rows": "time,x,label\n0,1.5,walk,\n1,-2,run,\n2,,run,\n",
    "a separator at the end of the header": PLAIN.replace("label\n", "label,\n"),
    "numbers of rows as R writes them": "time,x,label\nr1,0,1.5,walk\nr2,1,-2,run\nr3,2,,run\n",
    "spaces of any number between": "time x label\n 0  1.5\twalk \n1   -2 run\n2 NaN    run\n",
    "an exponent": PLAIN.replace("1.5", "15e-1"),
}


@pytest.mark.parametrize("text", WAYS.values(), ids=WAYS)
def test_the_same_table_comes_out_of_every_way_to_write_it(tmp_path, text):
    found, table = read(write(tmp_path, text), {"time": "number", "x": "number", "label": "text"})
    assert [c for c in table.columns if c in ("time", "x", "label")] == ["time", "x", "label"]
    assert found["time"] == [0, 1, 2]
    np.testing.assert_array_equal(found["x"], [1.5, -2, np.nan])
    assert found["label"] == ["walk", "run", "run"]
    assert table.ragged == 0


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_every_encoding_is_found(tmp_path, encoding):
    text = PLAIN.replace("walk", "geh\u00fcbt")
    found, _ = read(write(tmp_path, text, encoding), {"x": "number", "label": "text"})
    assert found["label"] == ["geh\u00fcbt", "run", "run"]
    np.testing.assert_array_equal(found["x"], [1.5, -2, np.nan])


def test_gzip_is_unpacked(tmp_path):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(PLAIN.encode()))
    assert read(path, {"x": "number"})[0]["x"][:2] == [1.5, -2]


def test_rows_of_another_width_are_counted_not_fatal(tmp_path):
    text = "a,b,c\n" + "1,2,3\n" * 20 + "1,2\n" + "1,2,3,4\n" + "7,8,9\n" + "1,2"
    found, table = read(write(tmp_path, text), {"a": "number"})
    assert found["a"] == [1] * 20 + [7]
    assert table.ragged == 3


def test_a_table_without_a_header_gets_numbered_columns(tmp_path):
    found, table = read(write(tmp_path, "0,1.5\n1,2.5\n"), {"c0": "number", "c1": "number"})
    assert table.columns == ("c0", "c1")
    assert found["c1"] == [1.5, 2.5]


@given(
    st.lists(
        st.tuples(st.integers(-(10**6), 10**6), st.floats(-1e6, 1e6, width=32)), min_size=3, max_size=30
    ),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["utf-8", "utf-16", "utf-8-sig"]),
    st.booleans(),
)
def test_numbers_survive_every_dialect(tmp_path_factory, values, separator, encoding, comma):
    path = tmp_path_factory.mktemp("d") / "t.csv"
    comma = comma and separator != ","
    lines = [f"n{separator}v"] + [
        f"{n}{separator}{repr(v).replace('.', ',') if comma else repr(v)}" for n, v in values
    ]
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    found, _ = read(path, {"n": "number", "v": "number"})
    np.testing.assert_array_equal(found["n"], np.array([n for n, _ in values], np.float32))
    np.testing.assert_array_equal(found["v"], np.array([v for _, v in values], np.float32))


@pytest.mark.parametrize(
    ("content", "said"),
    {
        "empty": (b"", "is empty"),
        "comments only": (b"# nothing\n# more\n", "comments only"),
        "one column": (b"just text\nwithout columns\n", "one cell each"),
        "binary": (bytes(range(256)) * 20, "no text"),
        "header only": (b"a,b\n", "no row below"),
        "a column twice": (b"a,a\n1,2\n3,4\n", "twice"),
    }.values(),
)
def test_what_is_no_table_is_refused_in_a_sentence(tmp_path, content, said):
    with pytest.raises(DataError, match=said):
        CsvTable(write(tmp_path, content))


def test_a_word_among_numbers_is_named_with_what_to_do(tmp_path):
    path = write(tmp_path, "a,b\n" + "1,2\n" * 5 + "1,OVF\n")
    with pytest.raises(DataError, match=r"'b' holds 'OVF'.*`nulls`"):
        read(path, {"a": "number", "b": "number"})
    table = CsvTable(path, nulls=["OVF"])
    assert sum(block.num_rows for block in table.blocks({"b": "number"})) == 6


def test_a_missing_file_a_folder_and_another_kind_are_told_apart(tmp_path):
    for path, said in (
        (tmp_path / "none.csv", "no file"),
        (tmp_path, "is a folder"),
        (write(tmp_path, "x", name="t.xlsx"), "CSV, TSV, Parquet"),
        (write(tmp_path, "x", name="t.parquet"), "not a Parquet file"),
    ):
        with pytest.raises(DataError, match=said):
            open_table(path)


def test_a_damaged_gzip_is_refused(tmp_path):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(PLAIN.encode() * 100)[:-20])
    with pytest.raises(DataError, match="whole file"):
        CsvTable(path)


def test_long_files_are_read_in_blocks(tmp_path):
    path = write(tmp_path, "n,v\n" + "".join(f"{i},{i % 7}\n" for i in range(700_000)))
    table = CsvTable(path)
    blocks = list(table.blocks({"n": "number"}))
    assert len(blocks) > 1
    joined = np.concatenate([numbers("t", "n", b.column(0)) for b in blocks])
    np.testing.assert_array_equal(joined, np.arange(700_000, dtype=np.float32))
    assert table.done == table.total
    assert find_dialect(path).header == ("n", "v")


def test_cells_that_look_like_numbers_are():
    assert all(is_number(c) for c in ("1", "-1.5", "+.5", "1e-3", "inf"))
    assert not any(is_number(c) for c in ("", "x", "1,5", "1.2.3", "0x1"))
    assert is_number("1,5", ",")


def test_a_cell_of_digits_only_is_looked_at_in_no_time():
    started = time.process_time()
    assert not is_number("1" * 100_000 + "x")
    assert is_number("1" * 100_000 + ".5")
    assert time.process_time() - started < 1


def test_a_column_whose_name_is_longer_than_any_name_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text(f"time,{'[x' * 50_000},y\n0,1,2\n1,2,3\n")
    started = time.process_time()
    with pytest.raises(DataError, match="100000 letters"):
        look(open_table(tmp_path / "x.csv"))
    assert time.process_time() - started < 1


def test_a_cell_longer_than_any_cell_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("start,end,label\n0,10,rest\n1" + 200_000 * "[" + ",20,walk\n")
    with pytest.raises(DataError, match=r"a\.csv is no table \(field larger"):
        find_dialect(tmp_path / "a.csv")
