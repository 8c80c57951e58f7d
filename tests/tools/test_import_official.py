"""import_official.py: the authors' layout comes out as it went in, and a pickle that asks for more than arrays is refused."""

from __future__ import annotations

import os
import pickle
import random
import re
import subprocess
import sys

import h5py
import numpy as np
import pytest
from conftest import TOOLS
from test_prepare_dataset import IDS, rows, texts


def object_array(entries: list) -> np.ndarray:
    array = np.empty(len(entries), object)
    array[:] = entries
    return array


def save_pickled(path, thing) -> None:
    """An .npy file of an object array whose pickle is `thing`."""
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (2,)})
        pickle.dump(thing, file)


@pytest.fixture
def official(tmp_path):
    folder = tmp_path / "LF-Amazon-toy"
    folder.mkdir()
    (folder / "trn.raw.txt").write_text("red car\nbig tree é\ngreen house\n", encoding="utf-8")
    (folder / "tst.raw.txt").write_text("blue car\ntree\n")
    (folder / "lbl.raw.txt").write_text("car\nhouse\n")
    (folder / "trn_X_Y.txt").write_text("3 2\n1:1.0 0:1.0\n1:1.0\n0:1.0 1:0.0\n")
    (folder / "tst_X_Y.txt").write_text("2 2\n0:1.0\n\n")
    (folder / "filter_labels_test.txt").write_text("")
    generator = np.random.default_rng(0)
    for stem, side, entries in (("trn", "train", [[0, 2], -1, [1]]), ("tst", "test", [-1, [0]]), ("lbl", "labels", [-1, -1])):
        images = generator.normal(size=(3 if stem == "trn" else 1, 4)).astype(np.float32)
        np.save(folder / f"{stem}_embs_imgs_3_4_toy.npy", images)
        np.save(folder / f"{side}_imgs_384_3_map.npy", object_array(entries), allow_pickle=True)
    return folder


def test_round_trip(tools, official, model, tmp_path):
    out = tmp_path / "data.h5"
    tools.run("import_official.py", "--dir", official, "--model", model, "--out", out)
    train, test = (np.load(official / f"{stem}_embs_imgs_3_4_toy.npy") for stem in ("trn", "tst"))
    with h5py.File(out) as file:
        assert texts(file, "train") == ["red car", "big tree é", "green house"] and texts(file, "label") == ["car", "house"]
        assert rows(file, "train/tokens")[0] == [2, IDS["red"], IDS["car"], 3]
        assert rows(file, "train/labels") == [[0, 1], [1], [0]] and rows(file, "test/labels") == [[0], []]
        assert rows(file, "test/filter") == [[], []]
        assert rows(file, "train/images") == [[0, 2], [], [1]]
        assert rows(file, "test/images") == [[], [3]] and rows(file, "label/images") == [[], []]
        np.testing.assert_array_equal(file["images/embeddings"][:], np.concatenate([train, test]).astype(np.float16))
        assert file.attrs["max_images"] == 2
        assert (file.attrs["propensity_a"], file.attrs["propensity_b"]) == (0.6, 2.6)


def test_without_pictures(tools, official, model, tmp_path):
    out = tmp_path / "data.h5"
    tools.run("import_official.py", "--dir", official, "--model", model, "--out", out, "--max-images", 0)
    with h5py.File(out) as file:
        assert file["images/embeddings"].shape == (0, 0) and rows(file, "train/images") == [[], [], []]


def test_latin1(tools, official, model, tmp_path):
    (official / "trn.raw.txt").write_bytes("red car\nbig tree é\ngreen house\n".encode("latin-1"))
    options = ["--dir", official, "--model", model, "--out", tmp_path / "data.h5"]
    assert "trn.raw.txt:2: byte 9 (0xe9) is not utf-8" in tools.fails("import_official.py", *options)
    tools.run("import_official.py", *options, "--latin1")
    with h5py.File(tmp_path / "data.h5") as file:
        assert texts(file, "train")[1] == "big tree é"


class Harmful:
    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return os.system, (f"touch {self._path}",)


def test_harmful_pickle_is_refused(tools, official, model, tmp_path):
    mark = tmp_path / "mark"
    for thing in (Harmful(mark), [Harmful(mark)]):
        save_pickled(official / "train_imgs_384_3_map.npy", thing)
        error = tools.fails("import_official.py", "--dir", official, "--model", model, "--out", tmp_path / "data.h5")
        assert "train_imgs_384_3_map.npy: the pickle asks for posix.system: refused" in error
        assert not mark.exists()
    np.load(official / "train_imgs_384_3_map.npy", allow_pickle=True)
    assert mark.exists()  # the pickle would have worked


@pytest.mark.parametrize(
    "name, content, expected",
    [
        ("trn_X_Y.txt", "3 3\n0:1\n0:1\n0:1\n", "trn_X_Y.txt:1: header says 3 columns, but there are 2 labels"),
        ("trn_X_Y.txt", "-5 2\n0:1\n0:1\n0:1\n", "trn_X_Y.txt:1: header says -5 rows, expected 0 or more"),
        ("trn_X_Y.txt", "3\n", "trn_X_Y.txt:1: header is '3', expected 'rows columns'"),
        ("trn_X_Y.txt", "3 2\n0:1\n2:1\n0:1\n", "trn_X_Y.txt:3: label 2 is out of range, expected 0..1"),
        ("trn_X_Y.txt", "3 2\n0:1\n0:1\n", "trn_X_Y.txt: ends after 2 rows, its header says 3"),
        ("trn_X_Y.txt", "2 2\n0:1\n0:1\n", "trn_X_Y.txt: has 2 rows, but"),
        ("trn_X_Y.txt", "3 2\n0:1\nzero:1\n0:1\n", "trn_X_Y.txt:3: entry 'zero:1', expected 'label:value'"),
        ("trn_X_Y.txt", "3 2\n0:1\n\n0:1\n", "trn.raw.txt:2: 1 row with no label"),
        ("trn.raw.txt", "car\n\nhouse\n", "trn.raw.txt:2: 1 row with no text"),
        ("trn.raw.txt", "car\n", "1_map.npy"),
        ("trn_embs_imgs_3_4_toy.npy", "nonsense", "not a .npy file"),
        ("train_imgs_384_3_map.npy", "nonsense", "train_imgs_384_3_map.npy: not a .npy file"),
        ("trn_X_Y.txt", "3 2\n0:nan\n0:1\n0:1\n", "trn_X_Y.txt:2: label 0 has the weight nan, expected 0 or more"),
        ("trn_X_Y.txt", "3 2\n0:inf\n0:1\n0:1\n", "trn_X_Y.txt:2: label 0 has the weight inf"),
        ("trn_X_Y.txt", "3 2\n0:1e999\n0:1\n0:1\n", "trn_X_Y.txt:2: label 0 has the weight 1e999"),
        ("trn_X_Y.txt", "3 2\n0:-1\n0:1\n0:1\n", "trn_X_Y.txt:2: label 0 has the weight -1"),
        (
            "trn_X_Y.txt",
            "3 2\n18446744073709551617:1\n0:1\n0:1\n",
            "trn_X_Y.txt:2: label 18446744073709551617 is out of range, expected 0..1",
        ),
        ("trn_X_Y.txt", "3 2\n-1:1\n0:1\n0:1\n", "trn_X_Y.txt:2: label -1 is out of range"),
        ("trn_X_Y.txt", "3 2\n0_1:1\n0:1\n0:1\n", "trn_X_Y.txt:2: is '0_1:1', expected 'label:value ...' in plain digits"),
        ("trn_X_Y.txt", "3 2\n0:1_0\n0:1\n0:1\n", "trn_X_Y.txt:2: is '0:1_0', expected"),
        ("trn_X_Y.txt", "3 2\n\u0661:1\n0:1\n0:1\n", "trn_X_Y.txt:2: is '\u0661:1', expected"),
        ("trn_X_Y.txt", "3_0 2\n", "trn_X_Y.txt:1: header is '3_0 2', expected 'rows columns'"),
        ("trn_X_Y.txt", "\u0663 2\n", "trn_X_Y.txt:1: header is '\u0663 2'"),
        ("trn.raw.txt", "car\rhouse\rtree", "trn.raw.txt:1: its line ends are a carriage return alone"),
        ("filter_labels_test.txt", "0 2\n", "filter_labels_test.txt:1: pair 0 2 is out of range"),
    ],
)
def test_bad_inputs(tools, official, model, tmp_path, name, content, expected):
    (official / name).write_text(content)
    if name == "trn.raw.txt" and "map" in expected:
        expected = "train_imgs_384_3_map.npy: holds 3 entries, expected one for each of the 1 texts"
    error = tools.fails("import_official.py", "--dir", official, "--model", model, "--out", tmp_path / "data.h5")
    assert expected in error and not (tmp_path / "data.h5").exists()


def test_bad_pictures(tools, official, model, tmp_path):
    def fails() -> str:
        return tools.fails("import_official.py", "--dir", official, "--model", model, "--out", tmp_path / "data.h5")

    path = official / "trn_embs_imgs_3_4_toy.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    assert "trn_embs_imgs_3_4_toy.npy: has " in fails()
    values = np.load(official / "tst_embs_imgs_3_4_toy.npy")
    np.save(path, np.concatenate([values, values * np.nan, values]))
    assert "trn_embs_imgs_3_4_toy.npy: row 1 is not finite" in fails()
    path.write_bytes(whole)
    np.save(official / "train_imgs_384_3_map.npy", object_array([[0, 3], -1, -1]), allow_pickle=True)
    assert "train_imgs_384_3_map.npy: entry 0 names image row 3, expected 0..2" in fails()
    (official / "train_imgs_384_3_map.npy").unlink()
    assert "its map train_imgs_*_3_map.npy is missing" in fails()
    np.save(official / "trn_embs_imgs_3_4_other.npy", values)
    assert "2 files match trn_embs_imgs_*.npy" in fails()


def import_maps(tools, official, model, entries) -> list[list[int]]:
    """Rows of the training embeddings that the three training texts name."""
    np.save(official / "train_imgs_384_3_map.npy", entries, allow_pickle=True)
    out = official.parent / "data.h5"
    tools.run("import_official.py", "--dir", official, "--model", model, "--out", out)
    train = np.load(official / "trn_embs_imgs_3_4_toy.npy").astype(np.float16)
    with h5py.File(out) as file:
        kept = file["images/embeddings"][:]
        return [[int(np.flatnonzero((train == kept[row]).all(1))[0]) for row in images] for images in rows(file, "train/images")]


@pytest.mark.parametrize(
    "entries",
    [
        object_array([[0, 2], -1, [1]]),
        object_array([(0, 2), None, 1]),
        object_array([np.array([0, 2]), float("nan"), np.array([1])]),
        object_array([[0, -1, 2], [], np.int64(1)]),
        object_array([["0", "2"], [-1], "1"]),
        object_array([[[0], [2]], [[]], [[1]]]),
        object_array([np.array([0.0, 2.0]), np.array([np.nan]), 1.0]),
        object_array([np.array([0, 2], ">i4"), [None, float("nan")], np.array(1, object)]),
        object_array([np.asfortranarray([[0, 2]]), np.zeros((0, 3), int), np.float32(1)]),
        np.array([[0, 2], [-1, -1], [1, -1]]),
        np.asfortranarray([[0, 2], [-1, -1], [1, -1]]),
        np.array([[0, 2], [np.nan, -1], [1, np.nan]]),
        np.array([[0, 2], [-1, -1], [1, -1]], ">i2"),
        np.array([["0", "2"], ["-1", "-1"], ["1", "-1"]]),
        np.array([[0, 2], [None, -1], [1, None]], object),
    ],
    ids=str,
)
def test_maps_that_are_read(tools, official, model, entries):
    assert import_maps(tools, official, model, entries) == [[0, 2], [], [1]]


@pytest.mark.parametrize(
    "entry, expected",
    [
        ({0, 1}, "entry 1 holds {0, 1} (set), expected row numbers"),
        ({0: 1}, "entry 1 holds {0: 1} (dict)"),
        (-2, "entry 1 names image row -2, expected 0..2"),
        ([0, 3], "entry 1 names image row 3"),
        (1.5, "entry 1 holds 1.5 (float)"),
        (float("inf"), "entry 1 holds inf"),
        (True, "entry 1 holds True (bool)"),
        ("a", "entry 1 holds 'a' (str)"),
        (1 << 70, "entry 1 holds 1180591620717411303424 (int)"),
        (np.array([True]), "entry 1 holds True"),
        ([[[[[[[[[[0]]]]]]]]]], "entry 1 is a list more than 8 levels deep"),
        (np.datetime64("2020-01-01"), "not a readable map"),
        (np.zeros(1, [("a", "i4")]), "not a readable map"),
        (1 + 2j, "the pickle asks for "),
    ],
)
def test_maps_that_are_refused(tools, official, model, tmp_path, entry, expected):
    np.save(official / "train_imgs_384_3_map.npy", object_array([0, entry, 1]), allow_pickle=True)
    error = tools.fails("import_official.py", "--dir", official, "--model", model, "--out", tmp_path / "data.h5")
    assert "train_imgs_384_3_map.npy" in error and expected in error


def test_map_that_numpy_would_trust(tools, official, model, tmp_path):
    """Found by fuzzing: an array whose state says objects where bytes lie, which numpy reads as pointers."""
    from vixen_tools.errors import UserError
    from vixen_tools.picture_map import read_map

    path = tmp_path / "train_imgs_x_3_map.npy"
    np.save(path, object_array([0, np.array([1, 2, 3]), 1]), allow_pickle=True)
    path.write_bytes(path.read_bytes().replace(b"\x8c\x02i8", b"\x8c\x02O8"))
    with pytest.raises(UserError, match=r"train_imgs_x_3_map\.npy: not a readable map.*array of objects without a list"):
        read_map(path, 3, 3)
    # a stand-in taken for a list: GLOBAL numpy ndarray, called without arguments, and APPENDS
    header = path.read_bytes()[:128]
    path.write_bytes(header + b"cnumpy\nndarray\n)R(K\x01e.")
    with pytest.raises(UserError, match=r"train_imgs_x_3_map\.npy: not a readable map"):
        read_map(path, 3, 3)
    np.save(path, np.array(["1", "2", "0"]))
    path.write_bytes(path.read_bytes()[:-4] + b"\xff\xff\xff\xff")  # no character of Unicode
    with pytest.raises(UserError, match=r"train_imgs_x_3_map\.npy: not a readable map"):
        read_map(path, 3, 3)


@pytest.mark.parametrize(
    "line, expected",
    [
        ("3:1.0 12:1.0", [3, 12]),
        ("3:1 12:1.0 1:1 ", [3, 12, 1]),
        ("11:1.0 1:1.5 111:10", [11, 1, 111]),
        ("1:1.00 0:0 2:1e0 4", [1, 2, 4]),
        ("  7:1.0\t8:1.0", [7, 8]),
        ("", []),
        ("3:1.02:1.0", "entry '3:1.02:1.0', expected 'label:value'"),
        ("3:1:1.0", "entry '3:1:1.0', expected"),
        ("3:1.0 200:1.0", "label 200 is out of range, expected 0..199"),
        ("\u0663:1.0", "expected 'label:value ...' in plain digits"),
    ],
)
def test_lines_of_a_matrix(tmp_path, line, expected):
    from vixen_tools.errors import UserError
    from vixen_tools.official import MatrixLines

    path = tmp_path / "trn_X_Y.txt"
    path.write_text(f"1 200\n{line}\n")
    if isinstance(expected, str):
        with pytest.raises(UserError, match=re.escape("trn_X_Y.txt:2: ") + ".*" + re.escape(expected)):
            list(MatrixLines(path, 200))
    else:
        assert [row.tolist() for row in MatrixLines(path, 200)] == [expected]


def entries_of(generator: random.Random, n: int, n_images: int) -> list:
    """Entries as the authors' maps have them, lists that several share among them."""
    shared = [[], [0], [0, 0], [-1]]
    kinds = [
        lambda: [generator.randrange(n_images) for _ in range(generator.choice([0, 1, 2, 3]))],
        lambda: generator.choice(shared),
        lambda: generator.choice([generator.randrange(n_images), -1, None, float("nan")]),
        lambda: [generator.choice([-1, None, float("nan"), generator.randrange(n_images)])],
        lambda: [generator.randrange(n_images) for _ in range(generator.choice([1000, 1001, 2001]))] if n < 20 else [0],
    ]
    return [generator.choice(kinds)() for _ in range(n)]


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_maps_read_opcode_by_opcode(tmp_path, monkeypatch, protocol):
    """As the reader of everything reads them; sizes around those at which a pickle begins another batch or frame."""
    from vixen_tools import picture_map

    generator, path = random.Random(protocol), tmp_path / "map.npy"
    for n in (0, 1, 2, 7, 999, 1000, 1001, 5000):
        for n_images in (1, 256, 70000):
            with open(path, "wb") as file:
                np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (n,)})
                pickle.dump(object_array(entries_of(generator, n, n_images)), file, protocol)
            streamed = picture_map._streamed(path, n, n_images)
            with monkeypatch.context() as patch:
                patch.setattr(picture_map, "_streamed", lambda *_: None)
                expected = picture_map.read_map(path, n, n_images)
            assert streamed is not None
            for found, wanted in zip(streamed, expected, strict=True):
                np.testing.assert_array_equal(found, wanted)
            whole = path.read_bytes()
            for cut in (1, 2, 5, n):  # what is damaged is left to the other reader
                path.write_bytes(whole[:-cut] if cut else whole[:-3])
                assert picture_map._streamed(path, n, n_images) is None


def test_memory_of_a_map(tmp_path):
    """An entry takes some bytes, not the hundreds of a Python list."""
    code = (
        "import pathlib, resource, sys; sys.path[:0] = sys.argv[1:3]\n"
        "import make_xmc; from vixen_tools.picture_map import read_map\n"
        "path, n = pathlib.Path(sys.argv[3]), int(sys.argv[4])\n"
        "make_xmc.write_map(path, n, 3)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "offsets, rows = read_map(path, n, 3 * n)\n"
        "assert (offsets[-1], rows[-1]) == (3 * n, 3 * n - 1)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)"
    )
    command = [sys.executable, "-c", code, TOOLS, TOOLS / "bench", tmp_path / "map.npy", 300000]
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) / 300000 < 60  # bytes an entry


@pytest.mark.parametrize("change", ["F", ">f4", ">f8", "f2", "f8", "v2", "v3", "v3F"])
def test_arrays_in_other_orders(tools, official, model, tmp_path, change):
    path = official / "trn_embs_imgs_3_4_toy.npy"
    values = np.load(path)
    stored = np.asfortranarray(values) if "F" in change else values.astype(change) if change[-2:] in ("f4", "f8", "f2") else values
    with open(path, "wb") as file:
        np.lib.format.write_array(file, stored, {"v2": (2, 0), "v3": (3, 0), "v3F": (3, 0)}.get(change))
    tools.run("import_official.py", "--dir", official, "--model", model, "--out", tmp_path / "data.h5")
    with h5py.File(tmp_path / "data.h5") as file:
        np.testing.assert_array_equal(file["images/embeddings"][:3], values.astype(np.float16))


@pytest.mark.parametrize(
    "values, expected",
    [
        (np.zeros((3, 4), np.int8), "holds int8 (3, 4), expected float16, float32 or float64 [M, I]"),
        (np.zeros((3, 4), bool), "holds bool"),
        (np.zeros((3, 4), complex), "holds complex128"),
        (np.zeros(3, [("a", "f4")]), "holds [('a', '<f4')] (3,)"),
        (np.zeros(12, "f4"), "(12,)"),
        (np.zeros((3, 4), object), "holds object"),
        (np.zeros((3, 0), "f4"), "(3, 0)"),
        (np.full((3, 4), 1e6, "f4"), "row 0 is not finite as float16"),
        (np.zeros((3, 4), np.longdouble), "holds "),
    ],
)
def test_arrays_that_are_refused(tools, official, model, tmp_path, values, expected):
    np.save(official / "trn_embs_imgs_3_4_toy.npy", values, allow_pickle=True)
    error = tools.fails("import_official.py", "--dir", official, "--model", model, "--out", tmp_path / "data.h5")
    assert "trn_embs_imgs_3_4_toy.npy: " in error and expected in error


def test_byte_order_mark_of_texts(tools, official, model, tmp_path):
    text = (official / "trn.raw.txt").read_bytes()
    for options in ([], ["--latin1"]):
        (official / "trn.raw.txt").write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"))
        tools.run("import_official.py", "--dir", official, "--model", model, "--out", tmp_path / "data.h5", *options)
        with h5py.File(tmp_path / "data.h5") as file:
            assert texts(file, "train")[0] == "red car"
    (official / "trn.raw.txt").write_bytes(text.decode().encode("utf-16"))
    error = tools.fails("import_official.py", "--dir", official, "--model", model, "--out", tmp_path / "data.h5", "--latin1")
    assert "trn.raw.txt" in error and "UTF-16" in error
