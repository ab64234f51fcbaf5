"""Parsers of recordings: tables, cases, arrays, recipes."""

from __future__ import annotations

import io
import random
import zipfile
from pathlib import Path
from typing import Any

from benchmarks.reliability.mutate import Mutator
from benchmarks.reliability.opened import Opened, modalities, of_files


def csv_replay(room: Path) -> Opened:
    """A CSV file as a stream."""
    import numpy as np

    from sentryfuse.errors import DataError
    from sentryfuse.stream.table import read_csv

    sensors = modalities()

    def read(path: Path) -> None:
        for name, (times, values) in read_csv(path, sensors).items():
            assert np.isfinite(times).all()
            assert (np.diff(times) > 0).all()
            assert len(times) == len(values) > 0, name

    seeds = [
        b"time_s,acc.x,acc.y,acc.z,temp.skin\n0,1,2,3,36.5\n0.0625,1,2,3,\n0.125,4,5,6,NA\n0.1875,1,2,3,\n",
        b'\xef\xbb\xbf"Time [ms]";"Acc_X";"Acc_Y";"Acc_Z"\r\n0;1,5;2,5;3\r\n62,5;1;2;3\r\n125;1;2;null\r\n',
        b"# logger 3\n# time_s\tacc/x\tacc/y\tacc/z\n1764428400.0\t1\t2\t3\n1764428400.0625\t1\t2\t3\n",
        b"timestamp,temp,age.years,age.weight,label\n2026-11-29T12:00:00Z,36.5,61,80,rest\n"
        b"2026-11-29T12:00:00.25Z,36.5,,,rest\n2026-11-29T12:00:00.5Z,36.6,,,walk\n",
        "time_s|temp.skin\n0|1\n0.25|2\n0.5|3\n".encode("utf-16"),
        b"sep=;\ntime_s;temp.skin\n0;1\n0;1\n0;2\n0,25;2\n",
    ]
    return Opened(
        seeds, of_files(room, "x.csv", read), (DataError,), (b"time_s", b"acc.x", b"temp.skin", b"NA")
    )


TABLES = (
    b"time,ax,ay,az,label\n0.00,1,2,3,rest\n0.02,1,2,3,rest\n0.04,1,2,3,walk\n0.06,1,2,3,walk\n0.08,1,2,3,walk\n",
    b"# made by a logger\nZeit;Puls;Temp\ns;1/min;C\n0,0;61,5;36,5\n0,5;62;36,6\n1,0;61;NA\n1,5;60;36,4\n",
    b"subject\tt_ms\tbvp\tactivity\n1\t0\t0.5\t2\n1\t20\t0.25\t2\n2\t0\t0.1\t1\n2\t20\t0.2\t1\n2\t40\t0.3\t1\n",
    b"2026-11-29 12:00:00,0.1,0.2\n2026-11-29 12:00:01,0.3,0.4\n2026-11-29 12:00:02,0.5,0.6\n",
    b"timestamp,sensor,value\n1764428400,temp,36.5\n1764428401,temp,36.5\n1764428402,hum,40\n1764428403,hum,41\n",
    b"start,end,label\n0,10,rest\n10,20,walk\n20,30,run\n",
    b"1.0 2.0 3.0\n4.0 5.0 6.0\n7.0 8.0 9.0\n10 11 12\n",
    "time,x\n0,1\n1,2\n2,3\n".encode("utf-16-le"),
)


def dialect(room: Path) -> Opened:
    """How a text table is written, and its clean rows."""
    from sentryfuse.errors import DataError
    from sentryfuse.recordings.dialect import find_dialect, open_clean

    def read(path: Path) -> None:
        found = find_dialect(path)
        assert found.header
        assert len(set(found.header)) == len(found.header)
        with open_clean(path, found) as stream:
            stream.read()

    return Opened(TABLES, of_files(room, "x.csv", read), (DataError,), (b"NA", b"//", b"1,5"))


def table_guess(room: Path) -> Opened:
    """`data guess` and `data make`: what a table seems to be, and windows of it."""
    from sentryfuse.data import load_windows
    from sentryfuse.errors import InputError
    from sentryfuse.recordings.guess import guess
    from sentryfuse.recordings.make import make_file

    def read(path: Path) -> None:
        recipe = guess([path], beside=room).recipe
        fastest = max((s.rate_hz for s in recipe.sensors), default=1.0) or 1.0
        short = {"window_s": 2 / fastest, "hop_s": None, "folder": str((room / recipe.folder).resolve())}
        recipe = recipe.model_copy(update=short)
        make_file(recipe, room / "made.npz")
        load_windows(room / "made.npz")

    return Opened(
        TABLES, of_files(room, "x.csv", read), (InputError,), (b"NA", b"label", b"time", b"subject")
    )


def recipe(room: Path) -> Opened:
    """A recipe that somebody wrote."""
    from sentryfuse.errors import DataError
    from sentryfuse.recordings.recipe import load_recipe

    seed = b"""name = "watch"
folder = "."
window_s = 2.0
hop_s = 1.0
nulls = ["?"]

[[table]]
files = ["*_acc.csv"]
pattern = "(?P<subject>[0-9]+)_acc"
time = "t_ms"
unit = "ms"
label = "activity"

[[table.sensor]]
name = "acc"
columns = ["ax", "ay", "az"]
rate_hz = 50.0

[split]
fractions = [0.6, 0.2, 0.2]
seed = 3
"""
    return Opened([seed], of_files(room, "x.toml", load_recipe), (DataError,), (b"fold", b"where", b"until"))


def ts(room: Path) -> Opened:
    """A file of cases as aeon writes it, and the windows of it."""
    from sentryfuse.errors import InputError
    from sentryfuse.recordings.cases import make_cases

    seeds = [
        b"# a comment\n@problemName Basic\n@timeStamps false\n@univariate false\n@dimensions 2\n"
        b"@classLabel true rest walk\n@data\n1,2,3:4,5,6:rest\n2,?,4:5,6,7:walk\n3,4,5:6,7,8:rest\n"
        b"1,1,1:0,0,0:walk\n"
    ]
    return Opened(
        seeds,
        of_files(room, "x.ts", lambda path: make_cases([path])),
        (InputError,),
        (b"@data", b"?", b"true"),
    )


def parquet(room: Path) -> Opened:
    """A Parquet file as a table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from sentryfuse.errors import DataError
    from sentryfuse.recordings.look import look
    from sentryfuse.recordings.tables import open_table

    def read(path: Path) -> None:
        table = open_table(path)
        look(table)
        for _ in table.blocks(dict.fromkeys(table.columns, "text")):
            pass

    table = pa.table({"t": [0.0, 0.1, 0.2], "x": [1, 2, 3], "who": ["a", "a", "b"]})
    seeds = []
    for compression in ("NONE", "snappy"):
        sink = io.BytesIO()
        pq.write_table(table, sink, compression=compression)
        seeds.append(sink.getvalue())
    return Opened(seeds, of_files(room, "x.parquet", read), (DataError,))


def members() -> dict[str, bytes]:
    """The arrays of a recording that `load_windows` takes, as npy files."""
    import numpy as np

    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "modalities": np.array(["acc", "temp"]),
        "x_acc": rng.normal(size=(6, 8, 3)).astype(np.float32),
        "rate_acc": np.array(16.0),
        "channels_acc": np.array(["x", "y", "z"]),
        "x_temp": rng.integers(0, 99, (6, 4, 1)).astype(np.int16),
        "scale_temp": np.array(0.1),
        "rate_temp": np.array(8.0),
        "missing_temp": np.array(True),
        "y": np.array([0, 1, 0, 1, 0, 1]),
        "classes": np.array(["rest", "walk"]),
        "subject": np.array(["a", "a", "b", "b", "c", "c"]),
        "split": np.array([0, 0, 1, 1, 2, 2], np.int8),
    }
    found = {}
    for name, array in arrays.items():
        sink = io.BytesIO()
        np.save(sink, array)
        found[name] = sink.getvalue()
    return found


def zipped(arrays: dict[str, bytes]) -> bytes:
    """An npz file of npy files, whatever is in them; its checksums fit."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, content in arrays.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content)
    return sink.getvalue()


NPY = (
    *(
        b"'<f4'",
        b"'|O'",
        b"'<U9999999'",
        b"'<f2'",
        b"'>i8'",
        b"'<c8'",
        b"'|V3'",
        b"'<M8[s]'",
        b"'|b1'",
        b"'|S0'",
    ),
    *(b"(0, 0, 1000000000000)", b"(4294967296, 4294967296)", b"()", b"(6,)", b"True", b"[('a', '<f4')]"),
)


def one_member(mutator: Mutator, rng: random.Random) -> bytes:
    """A recording of which one array was changed, left out, doubled or renamed, or any bytes of the file."""
    kind = rng.random()
    if kind < 0.2:
        return mutator.change(mutator.seeds[0])
    arrays = members_once()
    name = rng.choice([*arrays])
    if kind < 0.25:
        del arrays[name]
    elif kind < 0.3:
        arrays[rng.choice(["x_acc", "x_", "y", "../y", "x_acc\n", "task"])] = arrays[name]
    elif kind < 0.4:
        arrays[name] = arrays[rng.choice([*arrays])]
    else:
        content = arrays[name]
        if rng.random() < 0.5:  # its header
            arrays[name] = mutator.change(content[:128]) + content[128:]
        else:
            arrays[name] = mutator.change(content)
    return zipped(arrays)


_MEMBERS: dict[str, bytes] = {}


def members_once() -> dict[str, bytes]:
    """The same as `members`, made once; a copy."""
    if not _MEMBERS:
        _MEMBERS.update(members())
    return dict(_MEMBERS)


def npz(room: Path) -> Opened:
    """A recording of windows."""
    from sentryfuse.data import load_windows
    from sentryfuse.errors import DataError

    read = of_files(room, "x.npz", lambda path: load_windows(path, max_bytes=10**8))
    return Opened([zipped(members_once())], read, (DataError,), NPY, one_member)


def foreign_npz(room: Path) -> Opened:
    """Arrays of somebody else, as `data make` takes them."""
    from sentryfuse.errors import InputError
    from sentryfuse.recordings.foreign import windows_of_files

    def read(path: Path) -> None:
        windows_of_files([path], window_s=None, hop_s=None, rate_hz=None, axes=None)

    def inputs(mutator: Mutator, rng: random.Random) -> bytes:
        arrays = members_once()
        chosen = {
            "X": arrays["x_acc"],
            "y": arrays["y"],
            "subject": arrays["subject"],
            "fs": arrays["rate_acc"],
        }
        name = rng.choice([*chosen])
        if rng.random() < 0.2:
            chosen[rng.choice(["time", "split", "X_train", "y_test", "Z"])] = arrays[rng.choice([*arrays])]
        content = chosen[name]
        chosen[name] = (
            mutator.change(content[:128]) + content[128:] if rng.random() < 0.8 else mutator.change(content)
        )
        return zipped(chosen)

    return Opened([zipped(members_once())], of_files(room, "x.npz", read), (InputError,), NPY, inputs)


def npy(room: Path) -> Opened:
    """Single arrays of somebody else."""
    from sentryfuse.errors import InputError
    from sentryfuse.recordings.foreign import windows_of_files

    arrays = members_once()
    (room / "y.npy").write_bytes(arrays["y"])

    def read(path: Path) -> None:
        windows_of_files([path, room / "y.npy"], window_s=None, hop_s=None, rate_hz=8.0, axes=None)

    return Opened([arrays["x_acc"], arrays["x_temp"]], of_files(room, "X.npy", read), (InputError,), NPY)
