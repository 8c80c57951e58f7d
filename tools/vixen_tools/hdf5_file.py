"""HDF5 files: contiguous, aligned datasets written by blocks, and datasets read only where they lie whole in the opened file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .content_hash import ContentHash
from .errors import UserError, one_line, reading, reason
from .hdf5_heaps import check_heaps

_FILTERS = {
    1: "gzip",
    2: "shuffle",
    3: "fletcher32",
    4: "szip",
    5: "nbit",
    6: "scaleoffset",
    32000: "lzf",
    32001: "blosc",
    32004: "lz4",
    32008: "bitshuffle",
    32013: "zfp",
    32015: "zstd",
    32026: "blosc2",
}


def write_contiguous(file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.typing.DTypeLike, blocks: Iterable[np.ndarray]) -> int:
    """Writes a dataset from blocks of leading rows that together fill `shape`; returns its content hash."""
    dataset = file.create_dataset(name, shape=shape, dtype=dtype)
    content, first = ContentHash(), 0
    for block in blocks:
        block = np.ascontiguousarray(block, dtype)
        content.update(block)
        dataset[first : first + len(block)] = block
        first += len(block)
    assert first == shape[0], (name, first, shape)
    return content.value()


def open_hdf5(path: Path) -> h5py.File:
    """Opens for reading; a missing or damaged file is a UserError.

    Without HDF5's lock: network file systems refuse it and writers of other files hold it, and reading needs none.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with reading(path, "a readable HDF5 file"):
        check_heaps(path)
        return h5py.File(path, "r", locking=False)


def holds(group: h5py.Group, name: str) -> bool:
    """Whether there is something of that name, be it a link that leads nowhere."""
    with reading(f"{group.file.filename}:{group.name.rstrip('/')}/{name}", "readable"):
        return group.get(name, getlink=True) is not None


def whole_dataset(group: h5py.Group, name: str, kinds: str = "", ndim: int | None = None) -> h5py.Dataset:
    """The dataset `name` below the group, of which every value is stored in this very file; anything else is a UserError.

    kinds: numpy kinds allowed ("f", "iu"; "S": strings, also of variable length; "": any); ndim: dimensions expected.
    A soft link within the file is followed. What would be read as fill values, or from other files, is refused: links into other
    files, virtual datasets, external storage, values or chunks that were never written, filters that are not installed.
    """
    file = group.file
    where = f"{file.filename}:{group.name.rstrip('/')}/{name}"
    with reading(where, "readable"):
        parent = group
        for part in name.split("/"):
            link = parent.get(part, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise UserError(f"{where}: is a link into another file ({one_line(link.filename, 200)}): copy the dataset into this file")
            if link is None:
                raise UserError(f"{file.filename}: has no dataset {group.name.rstrip('/')}/{name}")
            if isinstance(link, h5py.SoftLink) and parent.get(part) is None:
                raise UserError(f"{where}: is a link to {one_line(link.path, 200)}, which is not in this file")
            parent = parent[part]
            if parent.file.filename != file.filename:
                raise UserError(f"{where}: lies in another file ({parent.file.filename}): copy the dataset into this file")
    dataset = parent
    if not isinstance(dataset, h5py.Dataset):
        raise UserError(f"{where}: is a {type(dataset).__name__.lower()}, expected a dataset")
    _check_storage(where, dataset)
    _check_type(where, dataset, kinds, ndim)
    return dataset


def read_dataset(group: h5py.Group, name: str, kinds: str = "", ndim: int | None = None) -> np.ndarray:
    """All values of a whole_dataset."""
    dataset = whole_dataset(group, name, kinds, ndim)
    with reading(f"{group.file.filename}:{dataset.name}", "readable"):
        return dataset[()]


def read_attribute(file: h5py.File, name: str, kind: type, default: object = None) -> Any:
    """A root attribute as str, int or float; `default` where it is missing. A list, or another type, is a UserError."""
    where = f"{file.filename}: attribute '{name}'"
    with reading(where, "readable"):
        if name not in file.attrs:
            return default
        if file.attrs.get_id(name).get_type().get_class() not in (h5py.h5t.STRING, h5py.h5t.INTEGER, h5py.h5t.FLOAT):
            raise UserError(f"{where} is neither a string nor a number, expected a {'string' if kind is str else 'number'}")
        value = file.attrs[name]
        if isinstance(value, bytes):
            value = value.decode()
    if isinstance(value, np.ndarray) and value.shape in ((), (1,)):
        value = value.reshape(-1)[0]
        value = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    allowed = {str: (str,), int: (int, np.integer), float: (float, int, np.floating, np.integer)}[kind]
    if not isinstance(value, allowed) or isinstance(value, (bool, np.bool_)):
        raise UserError(f"{where} is {one_line(repr(value), 80)}, expected a {'string' if kind is str else 'number'}")
    return kind(value)


def _check_storage(where: str, dataset: h5py.Dataset) -> None:
    with reading(where, "readable"):
        plist = dataset.id.get_create_plist()
        layout = plist.get_layout()
        external = plist.get_external_count() if layout == h5py.h5d.CONTIGUOUS else 0
        if layout == h5py.h5d.VIRTUAL or external:
            kind = "is a virtual dataset, its values lie" if layout == h5py.h5d.VIRTUAL else "keeps its values"
            raise UserError(f"{where}: {kind} in other files: copy the values into this file")
        for i in range(plist.get_nfilters()):
            code, _, _, label = plist.get_filter(i)
            if not h5py.h5z.filter_avail(code):
                name = _FILTERS.get(code) or one_line(label.decode("utf-8", "replace"), 40)
                raise UserError(
                    f"{where}: is compressed with HDF5's filter {code} ({name}), which is not installed: store it uncompressed or with gzip"
                )
        if not dataset.size:
            return
        if layout == h5py.h5d.CHUNKED:
            expected = int(np.prod([-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True)], dtype=object))
            written = dataset.id.get_num_chunks()
            if written < expected:
                raise UserError(
                    f"{where}: {expected - written:,} of its {expected:,} chunks were never written: its file was cut short "
                    "or its making stopped"
                )
            _check_chunks(where, dataset, Path(dataset.file.filename).stat().st_size)
        elif dataset.id.get_space_status() == h5py.h5d.SPACE_STATUS_NOT_ALLOCATED:
            raise UserError(f"{where}: its values were never written: its making stopped")
        elif layout == h5py.h5d.CONTIGUOUS:
            end, size = dataset.id.get_offset() + dataset.id.get_storage_size(), Path(dataset.file.filename).stat().st_size
            if end > size:
                raise UserError(f"{where}: ends at byte {end}, the file has {size}: cut short")


def _check_chunks(where: str, dataset: h5py.Dataset, file_bytes: int) -> None:
    """Every chunk has bytes, within the file: libhdf5 trusts their number."""
    damaged: list[Any] = []  # h5py's StoreInfo
    least = 5 if dataset.fletcher32 else 1

    def see(chunk: Any) -> None:
        if chunk.size < least or chunk.byte_offset + chunk.size > file_bytes:
            damaged.append(chunk)

    dataset.id.chunk_iter(see)
    if damaged:
        raise UserError(
            f"{where}: damaged: its chunk at {damaged[0].chunk_offset} has {damaged[0].size} bytes at {damaged[0].byte_offset}, "
            f"the file has {file_bytes}"
        )


def _check_type(where: str, dataset: h5py.Dataset, kinds: str, ndim: int | None) -> None:
    try:
        dtype = dataset.dtype
    except (TypeError, ValueError, NotImplementedError) as error:  # types that numpy has no name for
        raise UserError(f"{where}: is of a type that cannot be read: {reason(error, 100)}") from None
    kind = "S" if h5py.check_string_dtype(dtype) is not None else dtype.kind
    if dataset.shape is None or (kinds and kind not in kinds) or (ndim is not None and dataset.ndim != ndim):
        names = {"f": "floats", "i": "whole numbers", "u": "whole numbers", "S": "strings"}
        expected = " or ".join(dict.fromkeys(names[kind] for kind in kinds)) or "values"
        dimensions = "" if ndim is None else f" of {ndim} dimension{'s' if ndim > 1 else ''}"
        raise UserError(f"{where}: holds {'strings' if kind == 'S' else dtype} {dataset.shape}, expected {expected}{dimensions}")
