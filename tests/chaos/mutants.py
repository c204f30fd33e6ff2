"""Damaged and hostile variants of a DTB file, each from a seed."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dtb_builder.dataset import schema
from dtb_builder.dataset.codec import crc32c, encode
from dtb_builder.dataset.index import row_checksums
from dtb_builder.dataset.opening import dataset_at

__all__ = ["HOSTILE", "damaged", "hostile", "regions", "seal"]


def regions(path: Path) -> dict[str, list[tuple[int, int]]]:
    """The spans of a file by what lies there: superblock, index, texts, tensors, frames, other."""
    found: dict[str, list[tuple[int, int]]] = {"superblock": [(0, 48)]}
    with h5py.File(path) as file:
        for column in schema.COLUMNS:
            _add(found, "index", dataset_at(file, column.name))
        for name in schema.TEXTS:
            _add(found, "texts", dataset_at(file, name))
        states = file[schema.STATES_GROUP]
        assert isinstance(states, h5py.Group)
        for number in states:
            _add(found, "tensors", dataset_at(file, f"states/{number}/tensors"))
            for name in (schema.VALUES, schema.STEP_VALUES, schema.DIFFERENCE_VALUES):
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


def _set(name: str, value: Any, where: Any = ...) -> Change:
    """Write values into a column, with every checksum made right."""

    def change(file: h5py.File) -> None:
        dataset_at(file, name)[where] = value
        seal(file)

    return change


def seal(file: h5py.File) -> None:
    """Make all checksums of the index right, as far as they can be computed."""
    for checksum, covered in schema.ROW_CHECKSUMS.items():
        columns = {column.name: np.asarray(file[column.name]) for column in covered}
        dataset_at(file, checksum)[...] = row_checksums(columns, covered)
    for name in (*schema.TEXTS, *(column.name for column in schema.COLUMNS)):
        dataset = dataset_at(file, name)
        checksum = crc32c(np.asarray(dataset[...]).tobytes(), crc32c(name.encode()))
        dataset.attrs[schema.CHECKSUM_ATTRIBUTE] = np.uint32(checksum)


def _text(name: str, texts: list[bytes]) -> Change:
    """Put other strings in place of a text, with a right checksum."""

    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, data=np.array(texts, dtype=f"S{max(map(len, texts))}"))
        seal(file)

    return change


def _replace(name: str, **settings: Any) -> Change:
    """Put another dataset in place of a column, with the checksum of the old one."""

    def change(file: h5py.File) -> None:
        checksum = dataset_at(file, name).attrs[schema.CHECKSUM_ATTRIBUTE]
        del file[name]
        file.create_dataset(name, **settings).attrs[schema.CHECKSUM_ATTRIBUTE] = checksum

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


def _swapped_frames(file: h5py.File) -> None:
    """Exchange two states in HDF5's own index; the bytes stay where they are."""
    values = dataset_at(file, "states/00000001/values")
    chunks = [values.id.read_direct_chunk((row, 0))[1] for row in (0, 1)]
    for row in (0, 1):
        values.id.write_direct_chunk((row, 0), chunks[1 - row])


def _swapped_places(group: str) -> Change:
    """Exchange two states in the index of places, with right checksums of the columns."""

    def change(file: h5py.File) -> None:
        for name in ("offset", "length"):
            places = dataset_at(file, f"{group}/{name}")
            row = places[1]
            places[1, :2] = row[1::-1]
        seal(file)

    return change


def _plant(file: h5py.File, frame: bytes) -> None:
    """Have the index give this frame as the first state of run 1."""
    planted = file.create_dataset("planted", data=np.frombuffer(frame, np.uint8))
    places = {"offset": planted.id.get_offset(), "length": len(frame), "crc32c": crc32c(frame)}
    for name, value in places.items():
        dataset_at(file, f"state_index/{name}")[1, 0] = value
    seal(file)


def _bomb(file: h5py.File) -> None:
    """A frame of 4 GiB of zeros in a few hundred kB, promised by a right index and tensor table."""
    import zstandard

    compressor = zstandard.ZstdCompressor(level=1, write_checksum=True).compressobj(size=2**32)
    block = bytes(2**24)
    frame = b"".join(compressor.compress(block) for _ in range(2**8)) + compressor.flush()
    table = np.array([(b"bomb", 2, (2**15, 2**15, 1, 1), 0)], schema.TENSOR_DTYPE)
    planted = file.create_dataset("planted table", data=table)
    places = {
        "num_floats": 2**30,
        "num_tensors": 1,
        "tensors_offset": planted.id.get_offset(),
        "tensors_crc32c": crc32c(table.tobytes()),
    }
    for name, value in places.items():
        dataset_at(file, f"state_index/{name}")[1] = value
    _plant(file, frame)


def _nested(file: h5py.File) -> None:
    group = file
    for _ in range(2000):
        group = group.create_group("g")
    del file["metrics/valid_loss"]
    file["metrics/valid_loss"] = file["g"]


def _other_frame(file: h5py.File) -> None:
    """A state of another length, with right checksums of its bytes."""
    _plant(file, encode(np.zeros(7, np.float32)))


def _attribute(name: str, value: Any) -> Change:
    def change(file: h5py.File) -> None:
        file.attrs[name] = value

    return change


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout(shape=dataset_at(file, "metrics/valid_loss").shape, dtype="<f8")
    layout[...] = h5py.VirtualSource("/etc/passwd", "x", shape=layout.shape)
    checksum = dataset_at(file, "metrics/valid_loss").attrs[schema.CHECKSUM_ATTRIBUTE]
    del file["metrics/valid_loss"]
    dataset = file.create_virtual_dataset("metrics/valid_loss", layout)
    dataset.attrs[schema.CHECKSUM_ATTRIBUTE] = checksum


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
    "a volume does not exist": _set("state_index/volume", 5),
    "a volume is negative": _set("state_index/volume", -1),
    "a state is endless": _set("state_index/num_floats", 2**60),
    "a state is negative": _set("state_index/num_floats", -1),
    "a state has no floats": _set("state_index/num_floats", 0),
    "a table is endless": _set("state_index/num_tensors", 2**60),
    "a table is negative": _set("state_index/num_tensors", -3),
    "a table is elsewhere": _set("state_index/tensors_offset", 2**62),
    "a frame is before the file": _set("state_index/offset", -(2**62)),
    "a frame is behind the file": _set("state_index/offset", 2**62),
    "a frame is endless": _set("state_index/length", 2**62),
    "a frame is empty": _set("state_index/length", 0),
    "a frame is negative": _set("state_index/length", -8),
    "a frame is a bomb": _bomb,
    "a frame is of another length": _other_frame,
    "frames are exchanged in HDF5": _swapped_frames,
    "frames are exchanged in the index": _swapped_places("state_index"),
    "frames of steps are exchanged in the index": _swapped_places("step_index"),
    "batches are negative": _set("state_index/num_batches_tracked", -1),
    "a step is negative": _set("step_index/step", -1),
    "steps do not increase": _set("step_index/step", 1),
    "a step's frame is behind the file": _set("step_index/offset", 2**62),
    "a step's frame is endless": _set("step_index/length", 2**62),
    "differences do not increase": _set("difference_index/epoch", [3, 1], 1),
    "a difference is of no epoch": _set("difference_index/epoch", 99, (1, 0)),
    "a difference is of an epoch that is whole": _set("difference_index/epoch", 2, (1, 0)),
    "a difference is to itself": _set("difference_index/key", 1, (1, 0)),
    "a difference is to a difference": _set("difference_index/key", 3, (1, 0)),
    "a difference is to no epoch": _set("difference_index/key", -1, (1, 0)),
    "a difference's frame is behind the file": _set("difference_index/offset", 2**62),
    "a difference's frame is endless": _set("difference_index/length", 2**62),
    "frames of differences are exchanged in the index": _swapped_places("difference_index"),
    "differences seem endless": _replace("difference_index/key", shape=(4, 2**40), dtype="<i8"),
    "there are no differences, it seems": _replace(
        "difference_index/key", shape=(4, 0), dtype="<i8"
    ),
    "steps seem endless": _replace("step_index/step", shape=(4, 2**40), dtype="<i8"),
    "there are no steps, it seems": _replace("step_index/step", shape=(4, 0), dtype="<i8"),
    "the version is before there were steps": _attribute("schema_version", "1.0"),
    "the version is before there were differences": _attribute("schema_version", "1.1"),
    "kept is no truth value": _set("state_index/kept", 77),
    "provenance is no JSON": _text("provenance", [b"{'a': 1}"]),
    "provenance is nested deep": _text("provenance", [b"[" * 100_000]),
    "provenance is no UTF-8": _text("provenance", [b"\xff\xfe\xfd"]),
    "provenance is a pickle": _text("provenance", [b"cos\nsystem\n(S'exit 9'\ntR."]),
    "an environment is no JSON": _text("environments", [b"NaN, surely"]),
    "a volume is outside": _text("volumes", [b"../../../../etc/passwd"]),
    "a volume is a path": _text("volumes", [b"/dev/zero"]),
    "there are no volumes": _text("volumes", [b"nowhere.h5"]),
}
"""What somebody might do to a file on purpose."""
