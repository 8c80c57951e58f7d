"""hdf5_file.py: a dataset is read where it lies whole in the opened file, and anything else is refused by name; content hashes."""

from __future__ import annotations

import fcntl

import conftest  # noqa: F401  puts tools/ on the path
import h5py
import numpy as np
import pytest
import xxhash

from vixen_tools.errors import UserError
from vixen_tools.hdf5_file import holds, open_hdf5, read_attribute, read_dataset, whole_dataset, write_contiguous
from vixen_tools.hdf5_output import hdf5_output

VALUES = np.arange(12, dtype=np.float32).reshape(4, 3)


def made(path, fill) -> h5py.File:
    with h5py.File(path, "w") as file:
        fill(file)
    return open_hdf5(path)


def refused(path, fill, name: str = "x", **more) -> str:
    with made(path, fill) as file, pytest.raises(UserError) as caught:
        read_dataset(file, name, **more)
    assert str(caught.value).startswith(str(path))
    return str(caught.value)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"chunks": (2, 2)},
        {"compression": "gzip", "shuffle": True, "fletcher32": True},
        {"compression": "lzf"},
        {"dtype": ">f4"},
        {"dtype": np.float64},
        {"dtype": np.float16},
    ],
)
def test_layouts_that_are_read(tmp_path, how):
    with made(
        tmp_path / "a.h5", lambda file: file.create_dataset("group/x", data=VALUES.astype(how.get("dtype", np.float32)), **how)
    ) as file:
        np.testing.assert_array_equal(read_dataset(file, "group/x", "f", 2), VALUES)
        assert holds(file, "group/x") and not holds(file, "other")


def test_links(tmp_path):
    def soft(file):
        file["real/x"], file["x"], file["folder"] = VALUES, h5py.SoftLink("/real/x"), h5py.SoftLink("/real")

    with made(tmp_path / "a.h5", soft) as file:
        for name in ("x", "folder/x"):
            np.testing.assert_array_equal(read_dataset(file, name), VALUES)

    def links(file):
        file["x"], file["group"], file["gone"] = (
            h5py.ExternalLink("a.h5", "/real/x"),
            h5py.ExternalLink("a.h5", "/real"),
            h5py.SoftLink("/no"),
        )
        file["twice"] = h5py.SoftLink("/group/x")

    for name in ("x", "group/x"):
        assert "is a link into another file (a.h5): copy the dataset into this file" in refused(tmp_path / "b.h5", links, name)
    assert "lies in another file" in refused(tmp_path / "b.h5", links, "twice")
    assert "/gone: is a link to /no, which is not in this file" in refused(tmp_path / "b.h5", links, "gone")
    assert "has no dataset /other" in refused(tmp_path / "b.h5", links, "other")
    assert "/x: is a group, expected a dataset" in refused(tmp_path / "b.h5", lambda file: file.create_group("x"))


def test_values_in_other_files(tmp_path):
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file["x"] = VALUES

    def virtual(file):
        layout = h5py.VirtualLayout(VALUES.shape, VALUES.dtype)
        layout[:] = h5py.VirtualSource(tmp_path / "part.h5", "x", VALUES.shape)
        file.create_virtual_dataset("x", layout)

    assert "/x: is a virtual dataset, its values lie in other files" in refused(tmp_path / "a.h5", virtual)
    (tmp_path / "raw").write_bytes(VALUES.tobytes())
    external = [(str(tmp_path / "raw"), 0, VALUES.nbytes)]
    assert "/x: keeps its values in other files" in refused(
        tmp_path / "a.h5", lambda file: file.create_dataset("x", VALUES.shape, "f4", external=external)
    )


def test_values_that_were_never_written(tmp_path):
    def some(file):
        file.create_dataset("x", (4, 4), "f4", chunks=(2, 2), fillvalue=7)[:2] = 1

    assert "/x: 2 of its 4 chunks were never written" in refused(tmp_path / "a.h5", some)
    assert "/x: its values were never written" in refused(tmp_path / "a.h5", lambda file: file.create_dataset("x", (4, 4), "f4"))
    with made(tmp_path / "a.h5", lambda file: file.create_dataset("x", (0, 4), "f4")) as file:
        assert read_dataset(file, "x").shape == (0, 4)


def test_filter_that_is_not_installed(tmp_path):
    def fill(file):
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((4, 3))
        plist.set_filter(32015, h5py.h5z.FLAG_OPTIONAL)
        h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple((4, 3)), plist)
        file["x"][:] = VALUES

    assert "/x: is compressed with HDF5's filter 32015 (zstd), which is not installed" in refused(tmp_path / "a.h5", fill)


def test_types(tmp_path):
    for data, found in (
        (VALUES.astype(np.int32), "int32 (4, 3)"),
        (["a"], "strings (1,)"),
        (VALUES[0], "float32 (3,)"),
        (VALUES + 1j, "complex"),
        (h5py.Empty("f4"), "float32 None"),
    ):
        line = refused(tmp_path / "a.h5", lambda file, data=data: file.create_dataset("x", data=data), kinds="f", ndim=2)
        assert found in line and "expected floats of 2 dimensions" in line


def test_attributes(tmp_path):
    def fill(file):
        file.attrs["text"], file.attrs["bytes"], file.attrs["one"], file.attrs["many"] = "a", np.bytes_(b"b"), np.array([3]), [1, 2]
        file.attrs["empty"], file.attrs["flag"] = h5py.Empty("i4"), True

    with made(tmp_path / "a.h5", fill) as file:
        assert [read_attribute(file, name, str) for name in ("text", "bytes")] == ["a", "b"]
        assert read_attribute(file, "one", int) == 3 and read_attribute(file, "none", int, 5) == 5
        for name, kind in (("many", int), ("text", int), ("one", str), ("empty", int), ("flag", int)):
            with pytest.raises(UserError, match=f"a.h5: attribute '{name}' is"):
                read_attribute(file, name, kind)


def test_damage(tmp_path):
    """Found by fuzzing: kinds of damage that libhdf5 trusts."""
    path = tmp_path / "a.h5"
    made(path, lambda file: file.create_dataset("x", data=VALUES, chunks=(4, 3), fletcher32=True)).close()
    data = path.read_bytes()
    size = data.index(b"TREE\1") + 24  # the first key of the chunks' tree: its number of bytes
    assert data[size : size + 4] == (52).to_bytes(4, "little")
    for number in (0, 1 << 20):
        path.write_bytes(data[:size] + number.to_bytes(4, "little") + data[size + 4 :])
        with open_hdf5(path) as file, pytest.raises(UserError, match=f"/x: damaged: its chunk at .0, 0. has {number} bytes"):
            whole_dataset(file, "x")
    for signature in (b"SNOD", b"HEAP"):  # of the root group: even whether a name is there cannot be said
        path.write_bytes(data.replace(signature, b"XXXX"))
        with open_hdf5(path) as file, pytest.raises(UserError, match=r"a\.h5:/x: not readable: "):
            holds(file, "x")
    made(path, lambda file: file.attrs.__setitem__("text", "some text")).close()
    data = path.read_bytes()
    heap = data.index(b"GCOL")
    for size in (0, 1 << 63, (1 << 64) - 1):  # of the free range behind the text
        free = heap + 16 + 16 + 16
        assert data[free : free + 2] == b"\0\0"
        path.write_bytes(data[: free + 8] + size.to_bytes(8, "little") + data[free + 16 :])
        with pytest.raises(UserError, match=f"a.h5: not a readable HDF5 file: the heap of strings at byte {heap} is damaged"):
            open_hdf5(path)
    lists = np.empty(1, object)
    lists[0] = np.arange(3, dtype=np.int32)
    made(path, lambda file: file.attrs.create("x", lists, dtype=h5py.vlen_dtype(np.int32))).close()
    with open_hdf5(path) as file, pytest.raises(UserError, match="attribute 'x' is neither a string nor a number"):
        read_attribute(file, "x", str)


def test_long_strings(tmp_path):
    for length in (1, 4000, 5000, 17 << 20):
        with made(tmp_path / "a.h5", lambda file, length=length: file.create_dataset("x", data=["a" * length, "b"])) as file:
            assert [len(text) for text in read_dataset(file, "x", "S", 1)] == [length, 1]


def test_locks_do_not_stop_a_reader(tmp_path):
    made(tmp_path / "a.h5", lambda file: file.create_dataset("x", data=VALUES)).close()
    with open(tmp_path / "a.h5", "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with open_hdf5(tmp_path / "a.h5") as file:
            np.testing.assert_array_equal(read_dataset(file, "x"), VALUES)


def test_content_hash_is_of_the_stored_bytes(tmp_path):
    with hdf5_output(tmp_path / "a.h5", "w") as file:
        got = write_contiguous(file, "x", (4, 3), np.int32, iter([VALUES[:1].astype(np.int64), VALUES[1:].astype(">i4")]))
        assert write_contiguous(file, "empty", (0, 0), np.float16, iter([])) == xxhash.xxh3_64_intdigest(b"")
        np.testing.assert_array_equal(file["x"][:], VALUES)
    assert got == xxhash.xxh3_64_intdigest(VALUES.astype("<i4").tobytes())
