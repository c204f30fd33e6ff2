"""Damaged and hostile variants of a DTB file, each from a seed."""

import contextlib
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dtb_builder.dataset import schema, superblock
from dtb_builder.dataset.codec import crc32c, encode
from dtb_builder.dataset.column import block_checksums, list_checksum
from dtb_builder.dataset.index import row_checksums
from dtb_builder.dataset.opening import dataset_at

__all__ = [
    "HOSTILE",
    "OTHER_FACTS",
    "STAND_INS",
    "damaged",
    "hostile",
    "regions",
    "replaced",
    "seal",
    "seal_columns",
]

INDEX_NAMES = (*schema.TEXTS, *(column.name for column in schema.COLUMNS))


def regions(path: Path) -> dict[str, list[tuple[int, int]]]:
    """The spans of a file by what lies there: superblock, index, texts, tensors, frames, other."""
    found: dict[str, list[tuple[int, int]]] = {"superblock": [(0, 48)]}
    with h5py.File(path) as file:
        for column in schema.COLUMNS:
            _add(found, "index", dataset_at(file, column.name))
        for name in schema.TEXTS:
            _add(found, "texts", dataset_at(file, name))
        for name in INDEX_NAMES:
            _add(found, "checksums", dataset_at(file, schema.checksums_of(name)))
        states = file[schema.STATES_GROUP]
        assert isinstance(states, h5py.Group)
        for number in states:
            _add(found, "tensors", dataset_at(file, f"states/{number}/tensors"))
            for name in (schema.WHOLE, schema.DIFFERENCES, schema.MOMENTUM):
                values = dataset_at(file, f"states/{number}/{name}")
                for i in range(values.id.get_num_chunks()):
                    chunk = values.id.get_chunk_info(i)
                    found.setdefault("frames", []).append((chunk.byte_offset, chunk.size))
    taken = sorted(span for spans in found.values() for span in spans)
    position = 0
    for start, size in taken:
        if start > position:
            found.setdefault("HDF5's own", []).append((position, start - position))
        position = max(position, start + size)
    end = path.stat().st_size
    if end > position:
        found.setdefault("HDF5's own", []).append((position, end - position))
    return found


def _add(found: dict[str, list[tuple[int, int]]], region: str, dataset: h5py.Dataset) -> None:
    offset = dataset.id.get_offset()
    if offset is not None and dataset.nbytes:
        found.setdefault(region, []).append((offset, dataset.nbytes))


def damaged(path: Path, num_mutants: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Mutants as time and disks make them, every kind and region in turn.

    Yields:
        what was done, and the mutant's bytes.
    """
    data = path.read_bytes()
    places = sorted(regions(path).items())
    rng = np.random.default_rng(seed)
    kinds = ["flip", "flip", "flip", "overwrite", "zero", "swap", "cut", "grow"]
    for i in range(num_mutants):
        kind = kinds[i % len(kinds)]
        region, spans = places[(i // len(kinds)) % len(places)]
        start, size = spans[rng.integers(len(spans))]
        position = start + int(rng.integers(size))
        mutant = bytearray(data)
        if kind == "flip":
            mutant[position] ^= 1 << int(rng.integers(8))
        elif kind == "overwrite":
            count = int(rng.integers(1, 17))
            choices = (rng.bytes(count), b"\xff" * count, b"\x00" * count, b"\x7f" * count)
            mutant[position : position + count] = choices[rng.integers(4)]
        elif kind == "zero":
            mutant[position : position + 512] = bytes(len(mutant[position : position + 512]))
        elif kind == "swap":
            other, size = spans[rng.integers(len(spans))]
            length = min(int(rng.integers(1, 513)), len(data) - max(position, other))
            one, two = data[position : position + length], data[other : other + length]
            mutant[position : position + length], mutant[other : other + length] = two, one
        elif kind == "cut":
            del mutant[position:]
        else:
            mutant += rng.bytes(int(rng.integers(1, 4096)))
        yield f"{kind} in {region}", bytes(mutant)


Change = Callable[[h5py.File], None]


def hostile(path: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """Mutants that somebody made on purpose, checksums and all.

    Yields:
        what was done, and the mutant, a file in the folder.
    """
    for i, (name, change) in enumerate(HOSTILE.items()):
        target = folder / f"hostile-{i:03d}.h5"
        shutil.copyfile(path, target)
        with h5py.File(target, "r+") as file:
            change(file)
        yield name, target


def replaced(benchmark: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """Copies of a benchmark and its volumes, with something else in place of one of the files.

    Yields:
        what was done, and the benchmark's file, in a folder of its own.
    """
    names = [file.name for file in benchmark.parent.glob("*.h5")]
    for kind, put in STAND_INS.items():
        for name in names:
            copy = folder / f"replaced-{len(list(folder.iterdir())):03d}"
            shutil.copytree(benchmark.parent, copy)
            index = (copy / benchmark.name).rename(copy / f"{copy.name}.h5")
            original = index if name == benchmark.name else copy / name
            original.rename(original.with_suffix(".elsewhere"))
            put(original)
            yield f"{kind} for {'the index' if original == index else 'a volume'}", index


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as opened, contextlib.chdir(path.parent):
        opened.bind(path.name)  # a socket's whole path must be short


def _link_to_pipe(path: Path) -> None:
    os.mkfifo(path.with_suffix(".pipe"))
    path.symlink_to(path.with_suffix(".pipe"))


def _marked(path: Path) -> None:
    """The file itself, as a killed writer leaves it: HDF5 says that it is open for writing."""
    data = bytearray(path.with_suffix(".elsewhere").read_bytes())
    data[superblock._FLAGS_AT] = 1
    data[44:48] = superblock._checksum(data[:44])
    path.write_bytes(data)
    assert superblock.is_marked(path)


STAND_INS: dict[str, Callable[[Path], None]] = {
    "a link to it": lambda path: path.symlink_to(path.with_suffix(".elsewhere").name),
    "a link to nothing": lambda path: path.symlink_to("nowhere.h5"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to a pipe": _link_to_pipe,
    "a pipe": os.mkfifo,
    "a socket": _socket,
    "a folder": Path.mkdir,
    "an empty file": Path.touch,
    "a file marked as open": _marked,
}
"""What may stand in place of a file; ``.elsewhere`` has the file itself."""


def _set(name: str, value: Any, where: Any = ...) -> Change:
    """Write values into a column, with every checksum made right."""

    def change(file: h5py.File) -> None:
        dataset_at(file, name)[where] = value
        seal(file)

    return change


def seal(file: h5py.File) -> None:
    """Make all checksums of the index right, as far as they can be computed."""
    covered = (*schema.MOMENTS, *schema.ROW_COLUMNS)
    columns = {column.name: np.asarray(file[column.name]) for column in covered}
    dataset_at(file, "runs/crc32c")[...] = row_checksums(columns)
    seal_columns(file)


def seal_columns(file: h5py.File) -> None:
    """Make the checksums of blocks right, and of their lists, but not those of rows."""
    for name in INDEX_NAMES:
        data = np.asarray(dataset_at(file, name)[...]).tobytes()
        checksums = np.array(block_checksums(data), "<u4")
        del file[schema.checksums_of(name)]
        listed = file.create_dataset(schema.checksums_of(name), data=checksums)
        checksum = list_checksum(name, checksums.tobytes())
        listed.attrs[schema.CHECKSUM_ATTRIBUTE] = np.uint32(checksum)


def _text(name: str, texts: list[bytes]) -> Change:
    """Put other strings in place of a text, with a right checksum."""

    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, data=np.array(texts, dtype=f"S{max(map(len, texts))}"))
        seal(file)

    return change


def _replace(name: str, **settings: Any) -> Change:
    """Put another dataset in place of a column; the checksums stay those of the old one."""

    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, **settings)

    return change


def _resized(**sizes: int) -> Change:
    """Put unwritten columns of other sizes in place of all that agree on theirs.

    Args:
        sizes: of runs, epochs (rows of metrics), moments or failures.
    """

    def change(file: h5py.File) -> None:
        found: dict[int | str, int] = {
            "runs": len(dataset_at(file, "runs/number")),
            "epochs": dataset_at(file, "metrics/train_loss").shape[1],
            "moments": len(dataset_at(file, "moments/step")),
            "failures": len(dataset_at(file, "failures/number")),
        }
        for column in schema.COLUMNS:
            if set(column.shape) & sizes.keys():
                shape = [sizes.get(str(s), found.get(s, s)) for s in column.shape]
                del file[column.name], file[schema.checksums_of(column.name)]
                file.create_dataset(column.name, shape=shape, dtype=column.dtype)
                file.create_dataset(schema.checksums_of(column.name), shape=(0,), dtype="<u4")
        if sizes.get("runs") == 0:
            for column in schema.COLUMNS:
                name = schema.checksums_of(column.name)
                empty = np.uint32(list_checksum(column.name, b""))
                dataset_at(file, name).attrs[schema.CHECKSUM_ATTRIBUTE] = empty

    return change


def _link(name: str, link: Any) -> Change:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = link

    return change


def _swapped(one: str, other: str) -> Change:
    def change(file: h5py.File) -> None:
        file.move(one, "aside")
        file.move(other, one)
        file.move("aside", other)

    return change


def _swapped_frames(name: str) -> Change:
    """Exchange two states in HDF5's own index; the bytes stay where they are."""

    def change(file: h5py.File) -> None:
        values = dataset_at(file, f"states/00000001/{name}")
        chunks = [values.id.read_direct_chunk((row, 0))[1] for row in (0, 1)]
        for row in (0, 1):
            values.id.write_direct_chunk((row, 0), chunks[1 - row])

    return change


def _swapped_places(one: int, other: int, prefix: str = "") -> Change:
    """Exchange two moments' places in the index, with right checksums of the columns."""

    def change(file: h5py.File) -> None:
        for name in ("offset", "length"):
            places = dataset_at(file, f"moments/{prefix}{name}")
            row = places[1]
            row[[one, other]] = row[[other, one]]
            places[1] = row
        seal(file)

    return change


def _both_swapped(file: h5py.File) -> None:
    """Exchange two columns together with the lists that prove their bytes."""
    for prefix in ("", f"{schema.CHECKSUMS_GROUP}/"):
        _swapped(f"{prefix}metrics/valid_loss", f"{prefix}metrics/test_loss")(file)


def _plant(file: h5py.File, frame: bytes, position: int = 0) -> None:
    """Have the index give this frame as a state of run 1."""
    planted = file.create_dataset("planted", data=np.frombuffer(frame, np.uint8))
    places = {"offset": planted.id.get_offset(), "length": len(frame), "crc32c": crc32c(frame)}
    for name, value in places.items():
        dataset_at(file, f"moments/{name}")[1, position] = value
    seal(file)


def _bomb(num_floats: int) -> Change:
    """A frame of zeros in some kB, promised by a right index and tensor table.

    Run 1 has it as its first state, and the states after it as differences to it.
    """

    def change(file: h5py.File) -> None:
        import zstandard

        compressor = zstandard.ZstdCompressor(level=1, write_checksum=True).compressobj(
            size=4 * num_floats
        )
        block = bytes(2**24)
        frame = b"".join(compressor.compress(block) for _ in range(num_floats // 2**22))
        frame += compressor.flush()
        rows = num_floats // 2**13
        table = np.array([(b"bomb", 2, (rows, 2**13, 1, 1), 0)], schema.TENSOR_DTYPE)
        planted = file.create_dataset("planted table", data=table)
        places = {
            "num_floats": num_floats,
            "num_tensors": 1,
            "tensors_offset": planted.id.get_offset(),
            "tensors_crc32c": crc32c(table.tobytes()),
        }
        for name, value in places.items():
            dataset_at(file, f"runs/{name}")[1] = value
        _plant(file, frame)
        for name in ("offset", "length", "crc32c"):
            column = dataset_at(file, f"moments/{name}")
            column[1, 3] = column[1, 0]
        seal(file)

    return change


def _table(field: str, value: Any) -> Change:
    """Another entry in run 1's tensor table, with right checksums."""

    def change(file: h5py.File) -> None:
        tensors = dataset_at(file, "states/00000001/tensors")
        table = tensors[...]
        table[field][0] = value
        tensors[...] = table
        dataset_at(file, "runs/tensors_crc32c")[1] = crc32c(table.tobytes())
        seal(file)

    return change


def _nested(file: h5py.File) -> None:
    group = file
    for _ in range(2000):
        group = group.create_group("g")
    del file["metrics/valid_loss"]
    file["metrics/valid_loss"] = file["g"]


def _nested_aside(file: h5py.File) -> None:
    """Groups that the schema does not know, one in the other."""
    group = file
    for _ in range(3000):
        group = group.create_group("g")


def _other_frame(file: h5py.File) -> None:
    """A state of another length, with right checksums of its bytes."""
    _plant(file, encode(np.zeros(7, np.float32)))


def _attribute(name: str, value: Any) -> Change:
    def change(file: h5py.File) -> None:
        file.attrs[name] = value

    return change


def _list_attribute(value: Any) -> Change:
    def change(file: h5py.File) -> None:
        name = schema.checksums_of("metrics/valid_loss")
        dataset_at(file, name).attrs[schema.CHECKSUM_ATTRIBUTE] = value

    return change


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout(shape=dataset_at(file, "metrics/valid_loss").shape, dtype="<f8")
    layout[...] = h5py.VirtualSource("/etc/passwd", "x", shape=layout.shape)
    del file["metrics/valid_loss"]
    file.create_virtual_dataset("metrics/valid_loss", layout)


HOSTILE: dict[str, Change] = {
    "kind of file is a number": _attribute("kind", 7),
    "kind of file is unknown": _attribute("kind", "pickle"),
    "format is an array": _attribute("format", np.zeros(1000)),
    "version is a number": _attribute("schema_version", 1.0),
    "version is huge": _attribute("schema_version", "9" * 10_000),
    "provenance checksum is a text": _attribute("provenance_crc32c", "x"),
    "a column is shorter": _replace("metrics/test_loss", shape=(1, 1), dtype="<f8"),
    "a column is absurdly long": _replace("metrics/test_loss", shape=(2**50, 4), dtype="<f8"),
    "all columns seem long": _replace("metrics/train_loss", shape=(2**40, 4), dtype="<f8"),
    "epochs seem endless": _replace("metrics/train_loss", shape=(2, 2**40), dtype="<f8"),
    "failures seem endless": _replace("failures/attempts", shape=(2**60,), dtype="<i8"),
    "failures seem many": _replace("failures/attempts", shape=(2**28,), dtype="<i8"),
    "no runs, it seems": _replace("metrics/train_loss", shape=(0, 4), dtype="<f8"),
    "a column is a scalar": _replace("metrics/train_loss", shape=(), dtype="<f8"),
    "a column is of strings": _replace("runs/seed", shape=(4,), dtype=h5py.string_dtype()),
    "a column is of references": _replace("runs/seed", shape=(4,), dtype=h5py.ref_dtype),
    "a column is big-endian": _replace("runs/seed", shape=(4,), dtype=">i8"),
    "a column is chunked": _replace("runs/seed", shape=(4,), dtype="<i8", chunks=(2,)),
    "a column is compressed zeros": _replace(
        "runs/seed",
        shape=(2**27,),
        dtype="<i8",
        chunks=(2**24,),
        compression="gzip",
        maxshape=(None,),
    ),
    "a column lies in another file": _replace(
        "runs/seed", shape=(4,), dtype="<i8", external=[("/etc/passwd", 0, 32)]
    ),
    "a column is virtual": _virtual,
    "a column is a group": _link("metrics/valid_loss", h5py.SoftLink("/metrics")),
    "a column is another column": _link("metrics/valid_loss", h5py.SoftLink("/metrics/test_loss")),
    "a column links to itself": _link("metrics/valid_loss", h5py.SoftLink("/metrics/valid_loss")),
    "a column links to a file": _link("metrics/valid_loss", h5py.ExternalLink("/etc/passwd", "x")),
    "two columns are exchanged": _swapped("metrics/valid_loss", "metrics/test_loss"),
    "groups are exchanged": _swapped("metrics", "measured"),
    "a column is a deep nest of groups": _nested,
    "a number is negative": _set("runs/number", -5, 0),
    "numbers do not increase": _set("runs/number", 3),
    "an operation does not exist": _set("runs/genotype", 200, (0, 0, 0)),
    "an environment does not exist": _set("runs/environment", 99),
    "an environment is negative": _set("runs/environment", -7),
    "a volume does not exist": _set("runs/volume", 5),
    "a volume is negative": _set("runs/volume", -1),
    "an origin does not exist": _set("runs/origin", 3),
    "a state is endless": _set("runs/num_floats", 2**60),
    "a state is negative": _set("runs/num_floats", -1),
    "a state has no floats": _set("runs/num_floats", 0),
    "a table is endless": _set("runs/num_tensors", 2**60),
    "a table is negative": _set("runs/num_tensors", -3),
    "a table is elsewhere": _set("runs/tensors_offset", 2**62),
    "a table is left out": _set("runs/tensors_offset", 0),
    "a tensor has 255 dimensions": _table("rank", 255),
    "a tensor has no dimensions": _table("rank", 0),
    "a tensor is endless": _table("shape", (2**31 - 1,) * 4),
    "a tensor is negative": _table("shape", (-4, 5, 1, 1)),
    "a tensor lies elsewhere": _table("offset", 7),
    "two tensors have one name": _table("name", b"bias"),
    "a tensor's name is no UTF-8": _table("name", b"\xff\xfe"),
    "a frame is before the file": _set("moments/offset", -(2**62)),
    "a frame is behind the file": _set("moments/offset", 2**62),
    "a frame is endless": _set("moments/length", 2**62),
    "a frame is empty": _set("moments/length", 0),
    "a frame is negative": _set("moments/length", -8),
    "a base is gone": _set("moments/length", 0, (1, 0)),
    "momentum is behind the file": _set("moments/momentum_offset", 2**62),
    "momentum is endless": _set("moments/momentum_length", 2**62),
    "momentum is negative": _set("moments/momentum_length", -8),
    "a frame is a bomb": _bomb(2**30),
    "a frame is as long as may be": _bomb(2**25),
    "a frame is of another length": _other_frame,
    "frames are exchanged in HDF5": _swapped_frames("whole"),
    "differences are exchanged in HDF5": _swapped_frames("differences"),
    "momentum is exchanged in HDF5": _swapped_frames("momentum"),
    "frames are exchanged in the index": _swapped_places(0, 4),
    "frames within an epoch are exchanged in the index": _swapped_places(1, 2),
    "differences are exchanged in the index": _swapped_places(3, 5),
    "momentum is exchanged in the index": _swapped_places(3, 5, "momentum_"),
    "a step is negative": _set("moments/step", -1, 0),
    "moments do not increase": _set("moments/step", 1),
    "epochs do not increase": _set("moments/epoch", [0, -1, -1, 2, 1, 3]),
    "an epoch is behind the last": _set("moments/epoch", 99, 5),
    "an epoch is far below": _set("moments/epoch", -7, 5),
    "the initialisation is after a step": _set("moments/epoch", 0, 3),
    "a difference is to itself": _set("moments/base", 3, 3),
    "a difference is to a later state": _set("moments/base", 4, 3),
    "a difference is to a difference": _set("moments/base", 3, 5),
    "a difference is to a state within an epoch": _set("moments/base", 1, 3),
    "a difference is within an epoch": _set("moments/base", 0, 1),
    "a difference is to no state": _set("moments/base", 99, 3),
    "a difference is to none at all": _set("moments/base", -2, 3),
    "moments seem endless": _replace("moments/length", shape=(4, 2**40), dtype="<i8"),
    "there are no moments, it seems": _replace("moments/length", shape=(4, 0), dtype="<i8"),
    "the table of moments is shorter": _replace("moments/step", shape=(3,), dtype="<i8"),
    "all seem to have 2**40 moments": _resized(moments=2**40),
    "there seem to be 2**40 runs": _resized(runs=2**40),
    "there are no runs and 2**40 epochs": _resized(runs=0, epochs=2**40),
    "there are no runs and 2**60 epochs": _resized(runs=0, epochs=2**60),
    "a truth value is neither": _set("measured/valid_loss", 77),
    "a run ends after the last epoch": _set("runs/num_epochs", 9),
    "a run ends before the first": _set("runs/num_epochs", -1),
    "a diverged run goes on": _set("runs/num_epochs", 0),
    "the version is a draft's": _attribute("schema_version", "1.2"),
    "the version ends a line": _attribute("schema_version", "2.0\n"),
    "the provenance has another checksum": _attribute("provenance_crc32c", np.uint32(7)),
    "the provenance has no number as checksum": _attribute("provenance_crc32c", float("nan")),
    "a list of checksums is proved by a text": _list_attribute("x"),
    "a list of checksums is proved by an array": _list_attribute(np.zeros(1000)),
    "a list of checksums is longer": _replace(
        "checksums/metrics/valid_loss", data=np.zeros(9, np.uint32)
    ),
    "a list of checksums is endless": _replace(
        "checksums/metrics/valid_loss", shape=(2**50,), dtype="<u4"
    ),
    "a list of checksums is gone": _link("checksums/metrics/valid_loss", h5py.SoftLink("/x")),
    "a list of checksums is another's": _swapped(
        "checksums/metrics/valid_loss", "checksums/metrics/test_loss"
    ),
    "columns and their checksums are exchanged": _both_swapped,
    "the checksums are in another file": _link("checksums", h5py.ExternalLink("/etc/passwd", "x")),
    "metrics are in another file": _link("metrics", h5py.ExternalLink("/etc/passwd", "x")),
    "states are in another file": _link("states", h5py.ExternalLink("/etc/passwd", "x")),
    "a run's states are another's": _link("states/00000001", h5py.SoftLink("/states/00000000")),
    "unknown groups are nested deep": _nested_aside,
    "provenance has another shape": _text("provenance", [b'{"config": [], "network": 7}']),
    "provenance is not a number": _text("provenance", [b'{"config": {"states": NaN}}']),
    "provenance is a list": _text("provenance", [b"[1]"]),
    "an origin is a list": _text("origins", [b"[]"]),
    "provenance controls the terminal": _text("provenance", [b"\x1b[2J\x1b[31m"]),
    "provenance is no JSON": _text("provenance", [b"{'a': 1}"]),
    "provenance is nested deep": _text("provenance", [b"[" * 100_000]),
    "provenance is no UTF-8": _text("provenance", [b"\xff\xfe\xfd"]),
    "provenance is a pickle": _text("provenance", [b"cos\nsystem\n(S'exit 9'\ntR."]),
    "an environment is no JSON": _text("environments", [b"NaN, surely"]),
    "a volume is outside": _text("volumes", [b"../../../../etc/passwd"]),
    "a volume is a path": _text("volumes", [b"/dev/zero"]),
    "a volume's name is too long": _text("volumes", [b"x" * 300]),
    "there are no volumes": _text("volumes", [b"nowhere.h5"]),
}
"""What somebody might do to a file on purpose."""

OTHER_FACTS = frozenset(
    {
        "a frame is endless",
        "a frame is empty",
        "a base is gone",
        "a frame is as long as may be",
        "momentum is endless",
        "a truth value is neither",
        "a diverged run goes on",
        "provenance has another shape",
        "provenance is not a number",
    }
)
"""Those that say something else by right checksums, as another benchmark might: no reader can tell
that from the truth, but it must survive them."""
