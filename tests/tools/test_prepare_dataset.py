"""prepare_dataset.py: what it writes is what the raw folder says, and what it refuses it refuses in one line."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json

import h5py
import numpy as np
import pytest
from conftest import WORDS, query, write_lines

IDS = {word: 4 + i for i, word in enumerate(WORDS)}


def rows(file: h5py.File, name: str) -> list[list[int]]:
    offsets, values = file[f"{name}/offsets"][:], file[f"{name}/values"][:]
    assert offsets[0] == 0 and offsets[-1] == len(values) and (np.diff(offsets) >= 0).all()
    return [values[a:b].tolist() for a, b in itertools.pairwise(offsets)]


def texts(file: h5py.File, side: str) -> list[str]:
    return [bytes(row).decode() for row in rows(file, f"{side}/texts")]


def write_images(path, names: list[str], width: int = 4) -> np.ndarray:
    from vixen_tools.image_rows import write_images as write

    values = np.arange(len(names) * width, dtype=np.float16).reshape(-1, width)
    write(path, names, width, iter([values]), "test", 32, "test")
    return values


def test_round_trip(tools, raw, model, tmp_path):
    out = tmp_path / "data.h5"
    tools.run("prepare_dataset.py", "--raw", raw, "--model", model, "--out", out, "--max-length", 6)
    with h5py.File(out) as file:
        attributes = dict(file.attrs)
        assert attributes["format"] == "vixen-dataset" and attributes["version"] == 1 and attributes["name"] == "toy"
        assert attributes["tokenizer"] == "tiny" and attributes["vocabulary"] == 4 + len(WORDS)
        assert attributes["tokenizer_sha256"] == hashlib.sha256((model / "tokenizer.json").read_bytes()).hexdigest()
        assert (attributes["max_length"], attributes["max_images"], attributes["text"]) == (6, 0, "title")
        assert (attributes["propensity_a"], attributes["propensity_b"]) == (0.55, 1.5)
        assert attributes["version"].dtype == np.int64 and attributes["propensity_a"].dtype == np.float64
        expected = [
            [2, IDS["red"], IDS["car"], 3],
            [2, IDS["big"], IDS["house"], 3],
            [2, IDS["green"], IDS["tree"], 3],
            [2, *(IDS[w] for w in ["red", "house", "left", "right"]), 3],
        ]
        assert rows(file, "train/tokens") == expected
        assert texts(file, "train")[3] == "red house left right open close big"
        assert rows(file, "train/labels") == [[0, 2], [1], [1, 2], [0]]
        assert rows(file, "test/labels") == [[0], []]
        assert rows(file, "test/filter") == [[1], [0, 2]]
        assert texts(file, "label") == ["car", "house", "tree"]
        assert rows(file, "label/images") == [[], [], []] and file["images/embeddings"].shape == (0, 0)
        assert "label/labels" not in file and "train/filter" not in file
        assert attributes["bos_token"] == -1 and rows(file, "prompts/tokens") == []  # see test_add_prompts.py
        for side in ("train", "test", "label"):
            assert file[f"{side}/tokens/values"].dtype == np.int32 and file[f"{side}/texts/values"].dtype == np.uint8

        def check(name, item):
            if isinstance(item, h5py.Dataset):
                assert item.chunks is None and item.compression is None
                assert not item.size or item.id.get_offset() % 64 == 0, name

        file.visititems(check)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_content_and_name(tools, raw, model, tmp_path):
    out = tmp_path / "data.h5"
    tools.run(
        "prepare_dataset.py",
        "--raw",
        raw,
        "--model",
        model,
        "--out",
        out,
        "--text",
        "title+content",
        "--name",
        "LF-AmazonTitles-Toy",
        "--propensity-b",
        "2",
    )
    with h5py.File(out) as file:
        assert texts(file, "label") == ["car open", "house open", "tree open"]
        assert texts(file, "train")[0] == "red car"
        assert (file.attrs["propensity_a"], file.attrs["propensity_b"]) == (0.6, 2.0)


def test_pictures(tools, raw, model, tmp_path):
    values = write_images(tmp_path / "images.h5", ["a.png", "aa.png", "b.png", "c.png"])
    out = tmp_path / "data.h5"
    tools.run("prepare_dataset.py", "--raw", raw, "--model", model, "--out", out, "--images", tmp_path / "images.h5")
    with h5py.File(out) as file:
        assert file.attrs["max_images"] == 2
        assert rows(file, "train/images") == [[1], [], [0, 2], []] and rows(file, "test/images") == [[2], []]
        np.testing.assert_array_equal(file["images/embeddings"][:], values[[0, 2, 3]])  # the unused row is left out
        assert file["images/embeddings"].dtype == np.float16
    tools.run("prepare_dataset.py", "--raw", raw, "--model", model, "--out", out, "--images", tmp_path / "images.h5", "--max-images", 1)
    with h5py.File(out) as file:
        assert file.attrs["max_images"] == 1 and rows(file, "train/images") == [[1], [], [0], []]


def test_compact_pictures(tools, raw, model, tmp_path):
    rng = np.random.default_rng(0)
    from vixen_tools.image_rows import ImagesFile
    from vixen_tools.image_rows import write_images as write

    names = ["a.png", "b.png", "c.png", "d.png"]
    values = rng.normal(size=(4, 8)).astype(np.float16)
    write(tmp_path / "images.h5", names, 8, iter([values]), "test", 32, "test")
    tools.run("compact_images.py", "--raw", raw, "--images", tmp_path / "images.h5", "--out", tmp_path / "small.h5", "--dimensions", 2)
    small = ImagesFile(tmp_path / "small.h5")
    got = np.concatenate(list(small.blocks()))
    train = values[:3].astype(np.float64)  # d.png is of no training query
    centred = train - train.mean(0)
    # three points lie in a plane: two components keep all their inner products, up to 8 bits
    np.testing.assert_allclose(got[:3] @ got[:3].T, centred @ centred.T, atol=0.05)
    assert small.find(["c.png", "nothing.png"]).tolist() == [2, -1]
    out = tmp_path / "data.h5"
    tools.run("prepare_dataset.py", "--raw", raw, "--model", model, "--out", out, "--images", tmp_path / "small.h5")
    with h5py.File(out) as file:
        np.testing.assert_array_equal(file["images/embeddings"][:], got[:3].astype(np.float16))


def test_missing_picture(tools, raw, model, tmp_path):
    write_images(tmp_path / "images.h5", ["b.png", "c.png"])
    options = ["--raw", raw, "--model", model, "--out", tmp_path / "data.h5", "--images", tmp_path / "images.h5"]
    assert "trn.json.gz:3: picture 'a.png'" in tools.fails("prepare_dataset.py", *options)
    assert not (tmp_path / "data.h5").exists()
    tools.run("prepare_dataset.py", *options, "--ignore-missing-images")
    with h5py.File(tmp_path / "data.h5") as file:
        assert rows(file, "train/images") == [[0], [], [1], []]


def test_empty_rows(tools, raw, model, tmp_path):
    write_lines(
        raw / "trn.json.gz", [query("red car", [0, 1]), query(" \n", [1]), query("tree", []), query("car", [1]), query("big car", [2])]
    )
    write_lines(raw / "lbl.json", [{"title": "car"}, {"title": ""}, {"title": "tree"}])
    options = ["--raw", raw, "--model", model, "--out", tmp_path / "data.h5"]
    assert "lbl.json:2: 1 row with no text" in tools.fails("prepare_dataset.py", *options)
    result = tools.run("prepare_dataset.py", *options, "--drop-empty")
    assert "dropped 2 with no label, the first at line 3" in result.stderr  # one of them had only the dropped label
    with h5py.File(tmp_path / "data.h5") as file:
        assert texts(file, "train") == ["red car", "big car"] and rows(file, "train/labels") == [[0], [1]]
        assert rows(file, "test/filter") == [[], [0, 1]]  # label 1 is gone, label 2 is now 1
    error = tools.fails("prepare_dataset.py", *options, "--keep-empty")
    assert "trn.json.gz:3: 1 row with no label" in error
    write_lines(raw / "trn.json.gz", [query("", [0])])
    tools.run("prepare_dataset.py", *options, "--keep-empty")
    with h5py.File(tmp_path / "data.h5") as file:
        assert rows(file, "train/tokens") == [[2, 3]] and texts(file, "train") == [""]


def test_awkward_text(tools, raw, model, tmp_path):
    write_lines(raw / "trn.json.gz", [query("red\tcar\u2028tree\ud83d", [0]), query("maison é 猫", [1])])
    tools.run("prepare_dataset.py", "--raw", raw, "--model", model, "--out", tmp_path / "data.h5")
    with h5py.File(tmp_path / "data.h5") as file:
        assert texts(file, "train") == ["red car tree?", "maison é 猫"]


@pytest.mark.parametrize(
    "line, expected",
    [
        ('{"title": "car", "target_ind": [3]}', "trn.json.gz:1: label 3 is out of range, expected 0..2"),
        ('{"title": "car", "target_ind": [-1]}', "label -1 is out of range"),
        ('{"title": "car", "target_ind": [1.5]}', "'target_ind' holds 1.5"),
        ('{"title": "car"}', "'target_ind' is missing"),
        ('{"title": "car", "target_ind": [1], "target_rel": []}', "'target_rel' is 0 entries"),
        ('{"target_ind": [1]}', "'title' is missing"),
        ('{"title": 7, "target_ind": [1]}', "'title' is a int"),
        ("[1, 2]", "is a JSON list, expected an object"),
        ('{"title": ', "trn.json.gz:1: not JSON"),
        (b'{"title": "\xff"}', "trn.json.gz:1: byte 11 (0xff) is not utf-8"),
        ("", "trn.json.gz: is empty"),
    ],
)
def test_bad_rows(tools, raw, model, tmp_path, line, expected):
    data = line if isinstance(line, bytes) else line.encode()
    (raw / "trn.json.gz").write_bytes(gzip.compress(data + b"\n" if data else b""))
    assert expected in tools.fails("prepare_dataset.py", "--raw", raw, "--model", model, "--out", tmp_path / "data.h5")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["toy"]  # nothing half-written stays


@pytest.mark.parametrize(
    "key, value, expected",
    [
        ("target_ind", "[1, 18446744073709551617]", "label 18446744073709551617 is out of range, expected the line of a label"),
        ("target_ind", "[1, -9223372036854775809]", "label -9223372036854775809 is out of range"),
        ("target_ind", "[1, 1%s]" % ("0" * 400), "label a number of 1,329 bits is out of range"),
        ("target_ind", "[1, true]", "'target_ind' holds true"),
        ("target_ind", "[1, 2.0]", "'target_ind' holds 2.0"),
        ("target_ind", '[1, "2"]', "'target_ind' holds \"2\""),
        ("target_ind", "[1, NaN]", "'target_ind' holds NaN"),
        ("target_rel", "[1.0, null]", "'target_rel' holds null, expected numbers, 0 or more"),
        ("target_rel", "[1.0, NaN]", "'target_rel' holds NaN"),
        ("target_rel", "[1.0, Infinity]", "'target_rel' holds Infinity"),
        ("target_rel", "[1.0, -1]", "'target_rel' holds -1"),
        ("target_rel", '[1.0, "0"]', "'target_rel' holds \"0\""),
        ("target_rel", "[1.0, [0]]", "'target_rel' holds [0]"),
        ("target_rel", "null", "'target_rel' is None, expected a list of 2"),
        ("target_rel", "[1.0]", "'target_rel' is 1 entries"),
        ("title", "[" * 100000 + "]" * 100000, "not JSON: nested too deeply"),
    ],
)
def test_bad_label_numbers(tools, raw, model, tmp_path, key, value, expected):
    row = {"title": '"car"', "target_ind": "[1, 2]", "target_rel": "[1.0, 1.0]", key: value}
    (raw / "trn.json.gz").write_bytes(gzip.compress(("{" + ", ".join(f'"{k}": {v}' for k, v in row.items()) + "}\n").encode()))
    error = tools.fails("prepare_dataset.py", "--raw", raw, "--model", model, "--out", tmp_path / "data.h5")
    assert "trn.json.gz:1: " in error and expected in error


def test_relevance_that_is_read(tools, raw, model, tmp_path):
    write_lines(
        raw / "trn.json.gz",
        [
            {"title": "car", "target_ind": [0, 1, 2], "target_rel": [True, 0.0, 1e-9]},
            {"title": "car", "target_ind": [0, 1, 2], "target_rel": [-0.0, False, 10**400]},
        ],
    )
    tools.run("prepare_dataset.py", "--raw", raw, "--model", model, "--out", tmp_path / "data.h5")
    with h5py.File(tmp_path / "data.h5") as file:
        assert rows(file, "train/labels") == [[0, 2], [2]]


def test_byte_order_marks_and_line_ends(tools, raw, model, tmp_path):
    options = ["--raw", raw, "--model", model, "--out", tmp_path / "data.h5"]
    lines = (raw / "lbl.json").read_bytes()
    (raw / "lbl.json").write_bytes(b"\xef\xbb\xbf" + lines.replace(b"\n", b"\r\n"))
    (raw / "filter_labels_test.txt").write_bytes(b"\xef\xbb\xbf1 2\r\n")
    tools.run("prepare_dataset.py", *options)
    with h5py.File(tmp_path / "data.h5") as file:
        assert texts(file, "label") == ["car", "house", "tree"] and rows(file, "test/filter") == [[], [2]]
    (raw / "lbl.json").write_bytes(lines.replace(b"\n", b"\r").rstrip())
    assert "lbl.json:1: its line ends are a carriage return alone, expected a line feed" in tools.fails("prepare_dataset.py", *options)
    (raw / "lbl.json").write_bytes(lines.decode().encode("utf-16"))
    assert "lbl.json:1: is UTF-16 text, expected utf-8" in tools.fails("prepare_dataset.py", *options)
    (raw / "lbl.json").write_bytes(lines)
    (raw / "filter_labels_test.txt").write_text("\u0661 2\n")
    assert "filter_labels_test.txt:1: is '\u0661 2', expected 'row label'" in tools.fails("prepare_dataset.py", *options)
    for text in ("1_0 2", "1 2 3", "1.0 2", "0x1 2", "1" * 40 + " 2"):
        (raw / "filter_labels_test.txt").write_text(text)
        assert "filter_labels_test.txt:1: is '" in tools.fails("prepare_dataset.py", *options)


def test_two_files_of_a_side(tools, raw, model, tmp_path):
    (raw / "lbl.json.gz").write_bytes(gzip.compress((raw / "lbl.json").read_bytes()))
    error = tools.fails("prepare_dataset.py", "--raw", raw, "--model", model, "--out", tmp_path / "data.h5")
    assert "toy: has lbl.json.gz and lbl.json: expected one of them" in error


@pytest.mark.parametrize(
    "text, shows",
    [
        ("\u200b\u200b", False),
        ("\ufeff", False),
        ("\u00ad \u200d", False),
        ("\ufe0f", False),
        ("\u3164", False),
        ("\x01", False),
        ("\u00a0", None),
        ("\0", None),
        ("\x85", None),
        (".", True),
        ("\ue000", True),
        ("\u0301", True),
        ("\u200ba", True),
        ("\u732b", True),
    ],
)
def test_texts_that_show_nothing(tools, raw, model, tmp_path, text, shows):
    """Blanks alone are no text; invisible characters alone are kept, but said."""
    options = ["--raw", raw, "--model", model, "--out", tmp_path / "data.h5"]
    write_lines(raw / "lbl.json", [{"title": "car"}, {"title": text}, {"title": text}])
    if shows is None:
        assert "lbl.json:2: 2 rows with no text" in tools.fails("prepare_dataset.py", *options)
        return
    said = (
        "lbl.json: kept 2 whose text is of invisible characters alone, or nothing to the tokenizer, the first at line 2"
        in tools.run("prepare_dataset.py", *options).stderr
    )
    assert said == (not shows)
    with h5py.File(tmp_path / "data.h5") as file:
        assert texts(file, "label") == ["car", text, text]


def test_nul_and_nel_become_blanks(tools, raw, model, tmp_path):
    write_lines(raw / "lbl.json", [{"title": "red\0car"}, {"title": "red\x85car"}, {"title": "tree\0"}])
    tools.run("prepare_dataset.py", "--raw", raw, "--model", model, "--out", tmp_path / "data.h5")
    with h5py.File(tmp_path / "data.h5") as file:
        assert texts(file, "label") == ["red car", "red car", "tree"]
        assert rows(file, "label/tokens")[1] == [2, IDS["red"], IDS["car"], 3]


def test_picture_names_that_look_alike(tools, raw, model, tmp_path):
    def fails(wanted: str, there: str) -> str:
        (tmp_path / "images.h5").unlink(missing_ok=True)
        write_images(tmp_path / "images.h5", [there])
        write_lines(raw / "trn.json.gz", [query("red car", [0], images=[wanted])])
        return tools.fails(
            "prepare_dataset.py", "--raw", raw, "--model", model, "--out", tmp_path / "data.h5", "--images", tmp_path / "images.h5"
        )

    for wanted, there, shown in (
        ("caf\u00e9.png", "cafe\u0301.png", ("caf\\xe9.png", "cafe\\u0301.png")),
        ("A.PNG", "a.png", ("A.PNG", "a.png")),
        ("images/a.png", "a.png", ("images/a.png", "a.png")),
        ("./a.png", "a.png", ("./a.png", "a.png")),
    ):
        assert f"trn.json.gz:1: picture '{shown[0]}' is not in {tmp_path}/images.h5, but '{shown[1]}' is" in fails(wanted, there)
    assert "picture '\\ud83d.png' is not in" in fails("\ud83d.png", "a.png")
    assert "picture 'a.png\\x00' is not in" in fails("a.png\0", "a.png")


def test_content_hashes(tools, raw, model, tmp_path):
    """As docs/data-format.md says, and of the content alone: neither of the name of the file nor of what made it."""
    import xxhash

    values = write_images(tmp_path / "images.h5", ["a.png", "b.png", "c.png"])
    options = ["--raw", raw, "--model", model, "--images", tmp_path / "images.h5"]
    tools.run("prepare_dataset.py", *options, "--out", tmp_path / "a.h5")

    def expected(file, names: list[str]) -> str:
        parts = [xxhash.xxh3_64_intdigest(file[name][:].tobytes()) for name in names]
        return xxhash.xxh3_64_hexdigest(b"".join(part.to_bytes(8, "little") for part in parts))

    def hashes(path) -> dict[str, str]:
        with h5py.File(path) as file:
            return {name: value for name, value in file.attrs.items() if name.startswith("content_")}

    with h5py.File(tmp_path / "a.h5") as file:

        def pairs(side: str, *parts: str) -> list[str]:
            return [f"{side}/{part}/{half}" for part in parts for half in ("offsets", "values")]

        assert hashes(tmp_path / "a.h5") == {
            "content_label": expected(file, pairs("label", "tokens", "images", "texts")),
            "content_train": expected(file, pairs("train", "tokens", "images", "texts", "labels")),
            "content_test": expected(file, pairs("test", "tokens", "images", "texts", "labels", "filter")),
            "content_images": expected(file, ["images/embeddings"]),
        }
    with h5py.File(tmp_path / "images.h5") as file:
        assert file.attrs["content_embeddings"] == expected(file, ["embeddings"]) == hashes(tmp_path / "a.h5")["content_images"]
    tools.run("prepare_dataset.py", *options, "--out", tmp_path / "b.h5", "--name", "other", "--prompt", "red car")
    assert hashes(tmp_path / "a.h5") == hashes(tmp_path / "b.h5")
    (raw / "filter_labels_test.txt").write_text("1 2\n")
    tools.run("prepare_dataset.py", *options, "--out", tmp_path / "b.h5")
    different = {name for name, value in hashes(tmp_path / "a.h5").items() if hashes(tmp_path / "b.h5")[name] != value}
    assert different == {"content_test"}
    with h5py.File(tmp_path / "images.h5", "r+") as file:
        file["embeddings"][1, 1] = values[1, 1] + 1
    error = tools.fails("prepare_dataset.py", *options, "--out", tmp_path / "b.h5")
    assert "images.h5: /embeddings has the content " in error and "damaged, or changed since it was made" in error


def test_propensity_that_is_no_number(tools, raw, model, tmp_path):
    for value in ("nan", "inf", "-1"):
        arguments = "--raw", raw, "--model", model, "--out", tmp_path / "data.h5", f"--propensity-a={value}"
        error = tools.run("prepare_dataset.py", *arguments, code=2).stderr.strip().splitlines()[-1]
        assert "--propensity-a" in error and "expected" in error and not (tmp_path / "data.h5").exists()


def test_images_file_that_is_not_right(tools, raw, model, tmp_path):
    path = tmp_path / "images.h5"
    options = ["--raw", raw, "--model", model, "--out", tmp_path / "data.h5", "--images", path]

    def fails(change) -> str:
        path.unlink(missing_ok=True)
        write_images(path, ["a.png", "b.png", "c.png"])
        with h5py.File(path, "r+") as file:
            change(file)
        return tools.fails("prepare_dataset.py", *options)

    def replace(name, **how):
        def change(file):
            del file[name]
            file.create_dataset(name, **how)

        return change

    assert "images.h5: /embeddings is int32 (3, 4), expected" in fails(replace("embeddings", data=np.zeros((3, 4), np.int32)))
    assert "/embeddings: holds complex64" in fails(replace("embeddings", data=np.zeros((3, 4), np.complex64)))
    assert "/embeddings: its values were never written" in fails(replace("embeddings", shape=(3, 4), dtype="f2"))
    assert "/names: holds int64 (3,), expected strings" in fails(replace("names", data=np.arange(3)))
    assert "/names is (2,), expected one for each of the 3 rows" in fails(replace("names", data=["a.png", "b.png"]))
    assert "has no dataset /names" in fails(lambda file: file.__delitem__("names"))
    assert "attribute 'version' is" in fails(lambda file: file.attrs.__setitem__("version", [1, 2]))

    def compact(scale):
        def change(file):
            replace("embeddings", data=np.ones((3, 4), np.int8))(file)
            file["scale"] = np.array(scale, np.float32)
            del file.attrs["content_embeddings"]

        return change

    assert "/scale is not finite at column 2" in fails(compact([1, 1, np.nan, 1]))
    assert "/scale is missing or of the wrong size" in fails(compact([1, 1]))
    assert "/embeddings row 0 is not finite as float16" in fails(compact([1, 1, 1e30, 1]))
    for dtype in (">f2", np.float32, np.float64):  # other floats are read right
        path.unlink()
        values = write_images(path, ["a.png", "b.png", "c.png"])
        with h5py.File(path, "r+") as file:
            replace("embeddings", data=values.astype(dtype))(file)
            if dtype != ">f2":  # the hash is of the stored values, little-endian
                del file.attrs["content_embeddings"]
        tools.run("prepare_dataset.py", *options)
        with h5py.File(tmp_path / "data.h5") as file:
            np.testing.assert_array_equal(file["images/embeddings"][:], values)


def test_damaged_files(tools, raw, model, tmp_path):
    options = ["--raw", raw, "--model", model, "--out", tmp_path / "data.h5"]
    whole = gzip.compress("".join(json.dumps(query(f"car {i}", [0])) + "\n" for i in range(20000)).encode())
    (raw / "trn.json.gz").write_bytes(whole[: len(whole) // 2])
    error = tools.fails("prepare_dataset.py", *options)
    assert "trn.json.gz: damaged gzip data after line" in error
    (raw / "trn.json.gz").write_bytes(whole[:-6] + b"\0\0\0\0\0\0")
    assert "damaged gzip data after line 20000" in tools.fails("prepare_dataset.py", *options)
    (raw / "trn.json.gz").unlink()
    assert "has no trn.json.gz" in tools.fails("prepare_dataset.py", *options)


def test_other_bad_inputs(tools, raw, model, tmp_path):
    def fails(**changes):
        options = {"raw": raw, "model": model, "out": tmp_path / "data.h5", **changes}
        return tools.fails(
            "prepare_dataset.py", *(part for key, value in options.items() for part in (f"--{key.replace('_', '-')}", value))
        )

    assert "nothing: no such folder" in fails(raw=tmp_path / "nothing")
    assert "tokenizer.json: no such file" in fails(model=tmp_path / "nothing")
    assert "--max-length 2: expected more than the 2 special tokens" in fails(max_length=2)
    assert "images.h5: no such file" in fails(images=tmp_path / "images.h5")
    (tmp_path / "images.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    assert "images.h5: not a readable HDF5 file" in fails(images=tmp_path / "images.h5")
    with h5py.File(tmp_path / "images.h5", "w") as file:
        file.attrs["format"] = "other"
    assert "format and version are" in fails(images=tmp_path / "images.h5")
    write_images(tmp_path / "images.h5", ["b.png", "a.png", "c.png"])
    assert "/names is not sorted" in fails(images=tmp_path / "images.h5")
    from vixen_tools.image_rows import write_images as write

    write(tmp_path / "images.h5", ["a.png", "b.png", "c.png"], 2, iter([np.array([[0, 1], [np.nan, 1], [0, 1]])]), "t", 32, "t")
    assert "/embeddings row 1 is not finite" in fails(images=tmp_path / "images.h5")
    (raw / "filter_labels_test.txt").write_text("0 1\n2 0\n")
    assert "filter_labels_test.txt:2: pair 2 0 is out of range" in fails()
    (raw / "filter_labels_test.txt").write_text("zero\n")
    assert "filter_labels_test.txt:1: is 'zero', expected 'row label'" in fails()


def test_empty_filter_and_replacing(tools, raw, model, tmp_path):
    (raw / "filter_labels_test.txt").write_text("\n")
    out = tmp_path / "data.h5"
    out.write_text("an older file")
    assert "exists and was not made by vixen" in tools.fails("prepare_dataset.py", "--raw", raw, "--model", model, "--out", out)
    assert out.read_text() == "an older file"
    out.write_text("")
    for _ in range(2):  # an empty file, then an older data set
        tools.run("prepare_dataset.py", "--raw", raw, "--model", model, "--out", out)
    with h5py.File(out) as file:
        assert rows(file, "test/filter") == [[], []]


def test_full_disk(tools, raw, model, tmp_path, monkeypatch):
    """The file system's refusal, raised where the pictures are written, is one line that names the output."""
    from vixen_tools.image_rows import ImageStore

    def refuse(self):
        raise RuntimeError("Can't write data (file write failed: errno = 28, error message = 'No space left on device')")

    monkeypatch.setattr(ImageStore, "kept_blocks", refuse)
    error = tools.fails("prepare_dataset.py", "--raw", raw, "--model", model, "--out", tmp_path / "data.h5")
    assert error == f"error: {tmp_path}/data.h5: cannot be written: no space left on device"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["toy"]
    (tmp_path / "file").write_text("")
    assert "file/data.h5: cannot write here" in tools.fails(
        "prepare_dataset.py", "--raw", raw, "--model", model, "--out", tmp_path / "file" / "data.h5"
    )


def test_memory_is_bounded(raw, model, tmp_path):
    """200,000 rows and 100 MB of pictures must not stay in memory: the peak grows by much less than what passes through."""
    import subprocess
    import sys

    from conftest import TOOLS

    from vixen_tools.image_rows import write_images as write

    def peak(folder, images) -> int:
        code = (
            "import resource, runpy, sys; sys.path.insert(0, sys.argv[1]); sys.argv = sys.argv[2:]\n"
            "runpy.run_path(sys.argv[0], run_name='__main__')\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        command = [
            sys.executable,
            "-c",
            code,
            TOOLS,
            TOOLS / "prepare_dataset.py",
            "--raw",
            folder,
            "--model",
            model,
            "--out",
            tmp_path / "data.h5",
            "--images",
            images,
            "--max-length",
            128,
        ]
        result = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr
        return int(result.stdout.split()[-1]) * 1024

    def build(n_rows: int, n_pictures: int):
        folder = tmp_path / f"rows{n_rows}"
        folder.mkdir()
        names = [f"{i:06}.webp" for i in range(n_pictures)]
        blocks = (np.full((5000, 1024), 1, np.float16) for _ in range(n_pictures // 5000))
        write(folder / "images.h5", names, 1024, blocks, "test", 32, "test")
        text = " ".join(WORDS * 2)
        with gzip.open(folder / "trn.json.gz", "wt", compresslevel=1) as file:
            for i in range(n_rows):
                file.write(json.dumps(query(f"{text} {i}", [i % 3], images=[names[i % n_pictures]])) + "\n")
        for name in ("tst.jsonl", "lbl.json"):
            (folder / name).write_bytes((raw / name).read_bytes().replace(b'["c.png"]', b"[]"))
        return folder, folder / "images.h5"

    # both are larger than every block that is read at a time
    small_peak, large_peak = peak(*build(20000, 15000)), peak(*build(200000, 50000))
    passed = (tmp_path / "data.h5").stat().st_size
    assert passed > 140e6
    assert large_peak - small_peak < 30e6, (small_peak, large_peak, passed)


def test_texts_that_are_nothing_to_the_tokenizer(tools, raw, model, tmp_path):
    from tokenizers import Tokenizer, normalizers

    (tmp_path / "model").mkdir()
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.normalizer = normalizers.Replace("~", "")
    tokenizer.save(str(tmp_path / "model/tokenizer.json"))
    write_lines(raw / "lbl.json", [{"title": "car"}, {"title": "tree"}, {"title": "~"}])
    result = tools.run("prepare_dataset.py", "--raw", raw, "--model", tmp_path / "model", "--out", tmp_path / "data.h5")
    assert "lbl.json: kept 1 whose text is of invisible characters alone, or nothing to the tokenizer, the first at line 3" in result.stderr
    with h5py.File(tmp_path / "data.h5") as file:
        assert rows(file, "label/tokens")[2] == [2, 3]


def test_compact_pictures_that_are_not_finite(tools, raw, model, tmp_path):
    from vixen_tools.image_rows import write_images as write

    values = np.ones((4, 3), np.float16)
    values[2, 1] = np.nan
    write(tmp_path / "images.h5", ["a.png", "b.png", "c.png", "d.png"], 3, iter([values]), "test", 32, "test")
    error = tools.fails(
        "compact_images.py", "--raw", raw, "--images", tmp_path / "images.h5", "--out", tmp_path / "small.h5", "--dimensions", 2
    )
    assert "images.h5: /embeddings row 2 is not finite" in error and not (tmp_path / "small.h5").exists()
