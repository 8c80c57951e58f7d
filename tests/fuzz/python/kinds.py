"""The kinds of input that are fuzzed: valid seeds, how they are damaged, and the readers that the tools call on them."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import random
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))

from mutations import damaged, damaged_text, with_png_sums, with_tar_sums

from vixen_tools.hdf5_file import open_hdf5
from vixen_tools.hdf5_output import hdf5_output
from vixen_tools.image_rows import ImagesFile, ImageStore, write_compact_images, write_images
from vixen_tools.npy_rows import NpyRows
from vixen_tools.official import MatrixLines
from vixen_tools.picture_decode import Preprocess, decode
from vixen_tools.picture_map import read_map
from vixen_tools.pictures import PictureSource, decoded_batches
from vixen_tools.prompts import read_prompts, write_prompts
from vixen_tools.raw import RawSide, read_filter
from vixen_tools.texts import clean_text, is_invisible

SMALL = Preprocess(8, int(Image.Resampling.BICUBIC))


@dataclass
class Kind:
    """name: of the file that is written; seeds(folder) -> contents; damage; read(path): what the tools do with it."""

    name: str
    seeds: Callable[[Path], list[bytes]]
    damage: Callable[[bytes, random.Random, list[bytes]], bytes]
    read: Callable[[Path], object]


def _json_seeds(_: Path) -> list[bytes]:
    rows = [
        {
            "uid": str(i),
            "title": f"red car {i}",
            "content": "caf\u00e9",
            "target_ind": [i % 3, 5],
            "target_rel": [1.0, 0.5],
            "images": ["a.png", "b.png"][: i % 3],
        }
        for i in range(5)
    ]
    text = "".join(json.dumps(row, ensure_ascii=bool(i % 2)) + "\n" for i, row in enumerate(rows)).encode()
    return [text, b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"), b'{"title": "x", "target_ind": []}\n']


def _packed_now_and_then(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    data = damaged_text(data, rng, others)
    if rng.random() < 0.2:
        data = gzip.compress(data, 1)
        if rng.random() < 0.5:
            data = damaged(data, rng, others)
    return data


def _read_json(path: Path) -> None:
    for item in RawSide(path, "title+content", True, _Pictures(path), 2):
        text = clean_text(item.text)
        if text:
            is_invisible(text)
        np.unique(np.asarray(item.labels))


class _Pictures:
    """Names of which half are known, as an ImagesFile finds them."""

    def __init__(self, path: Path):
        self.path = path

    def find(self, names: list[str]) -> np.ndarray:
        return np.array([0 if name.encode("utf-8", "surrogatepass") == b"a.png" else -1 for name in names])

    def similar(self, name: str) -> str | None:
        return "b.PNG" if name.startswith("b") else None


def _matrix_seeds(_: Path) -> list[bytes]:
    return [b"4 6\n0:1.0 5:0.5\n\n3:1\n2:1 1:0\n", b"2 6\r\n1 2\r\n0:1e3\r\n", b"0 6\n"]


def _npy(array: np.ndarray, version=None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version, allow_pickle=True)
    return file.getvalue()


def _npy_seeds(_: Path) -> list[bytes]:
    values = np.random.default_rng(0).normal(size=(6, 4))
    return [
        _npy(values.astype(np.float32)),
        _npy(values.astype(">f8")),
        _npy(np.asfortranarray(values.astype(np.float16))),
        _npy(values, (2, 0)),
        _npy(values, (3, 0)),
        _npy(np.zeros(3, [("a", "f4")])),
        _npy(np.zeros((2, 2), object)),
    ]


def _store(*sources) -> None:
    store = ImageStore(list(sources))
    store.use(np.arange(store.rows))
    store.close_uses()
    store.width()
    for block in store.kept_blocks():
        assert np.isfinite(block).all() and block.dtype == np.float16


def _objects(*entries) -> np.ndarray:
    out = np.empty(len(entries), object)
    for i, entry in enumerate(entries):
        out[i] = entry
    return out


def _map_seeds(_: Path) -> list[bytes]:
    return [
        _npy(_objects([0, 2], -1, [], [1])),
        _npy(_objects(np.array([1, 2]), None, float("nan"), np.int64(3))),
        _npy(np.array([[0, 1], [-1, -1], [2, -1], [3, 3]])),
        _npy(np.array([0, np.nan, 2.0, -1])),
        _npy(np.array(["1", "2", "-1", "0"])),
        _npy(_objects({1}, (1, 2), [[1], [2]], "3")),
    ]


_ENTRIES: tuple = (
    None,
    -1,
    -2,
    0,
    1,
    1.0,
    1.5,
    float("nan"),
    float("inf"),
    True,
    "1",
    "x",
    b"2",
    (),
    [],
    [[]],
    {1},
    {1: 2},
    1 << 70,
    1 + 2j,
    np.float32(2),
    np.int64(1),
    np.array([1, -1]),
    np.array([[1.0, np.nan]]),
    np.array(["1"]),
    np.array(3),
    slice(None),
    b"\xff",
    np.datetime64("2020-01-01"),
    np.zeros(2, [("a", "i4")]),
)


def _damage_map(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    if rng.random() < 0.5:
        return damaged(data, rng, others)
    entries = [rng.choice(_ENTRIES) for _ in range(rng.choice((4, 4, 4, 3)))]
    while rng.random() < 0.3:
        entries[rng.randrange(len(entries))] = [rng.choice(_ENTRIES) for _ in range(3)]
    if rng.random() < 0.2:  # a pickle of something else behind the header
        file = io.BytesIO()
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (4,)})
        return file.getvalue() + pickle.dumps(
            rng.choice((entries, entries[0], _objects(*entries).reshape(2, -1) if len(entries) == 4 else 1))
        )
    return _npy(_objects(*entries))


def _images_seeds(folder: Path) -> list[bytes]:
    path, values = folder / "seed.h5", np.random.default_rng(0).normal(size=(5, 4))
    names = ["a.png", "b.png", "caf\u00e9.png", "d.png", "sub/e.png"]
    write_images(path, names, 4, iter([values]), "model", 32, "test")
    seeds = [path.read_bytes()]
    write_compact_images(folder / "compact.h5", ImagesFile(path), values, "model", "test")
    seeds.append((folder / "compact.h5").read_bytes())
    with h5py.File(folder / "other.h5", "w", userblock_size=512) as file:
        file.attrs["format"], file.attrs["version"] = "vixen-images", 1
        file.create_dataset("embeddings", data=values.astype(">f4"), chunks=(2, 2), shuffle=True, fletcher32=True, compression="lzf")
        file["real"] = np.array([name.encode() for name in names])
        file["names"] = h5py.SoftLink("/real")
    seeds.append((folder / "other.h5").read_bytes())
    return seeds


def _read_images(path: Path) -> None:
    images = ImagesFile(path)
    images.find(["a.png", "nothing"])
    images.similar("A.png")
    _store(images)


def _picture(mode: str, kind: str, **more) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3)).astype(np.uint8)
    picture = Image.fromarray(pixels)
    if mode == "I;16":
        picture = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257)
    elif mode in ("I", "F"):
        picture = Image.fromarray(pixels[:, :, 0].astype(np.int32 if mode == "I" else np.float32))
    elif mode != "RGB":
        picture = picture.convert(mode)
    file = io.BytesIO()
    picture.save(file, kind, **more)
    return file.getvalue()


def _picture_seeds(_: Path) -> list[bytes]:
    turn = Image.Exif()
    turn[0x0112] = 6
    kinds = [
        ("RGB", "PNG"),
        ("RGBA", "PNG"),
        ("P", "PNG"),
        ("1", "PNG"),
        ("I;16", "PNG"),
        ("RGB", "JPEG"),
        ("CMYK", "JPEG"),
        ("L", "JPEG"),
        ("P", "GIF"),
        ("RGB", "BMP"),
        ("RGB", "TIFF"),
        ("I", "TIFF"),
        ("F", "TIFF"),
        ("I;16", "TIFF"),
        ("RGBA", "WEBP"),
        ("RGB", "ICO"),
        ("RGB", "PPM"),
        ("I;16", "PPM"),
        ("RGBA", "TGA"),
        ("RGB", "PCX"),
        ("RGB", "JPEG2000"),
        ("RGBA", "DDS"),
    ]
    return [
        *(_picture(mode, kind) for mode, kind in kinds),
        _picture("RGB", "JPEG", exif=turn),
        _picture("RGB", "PNG", exif=turn),
        _picture("P", "PNG", transparency=3),
        _picture("RGB", "PNG", transparency=(1, 2, 3)),
    ]


def _damage_picture(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    data = damaged(data, rng, others)
    return with_png_sums(data) if data.startswith(b"\x89PNG") and rng.random() < 0.8 else data


def _archive_seeds(_: Path) -> list[bytes]:
    png, jpeg = _picture("RGB", "PNG"), _picture("L", "JPEG")
    seeds = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            archive.writestr("images/a.png", png)
            archive.writestr("./sub/caf\u00e9.jpg", jpeg)
        seeds.append(file.getvalue())
    for layout in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=layout) as archive:
            for name, data in (
                ("images/a.png", png),
                (f"{'x' * 90}/b.png" if layout == tarfile.USTAR_FORMAT else f"{'x' * 120}.png", jpeg),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        seeds.append(file.getvalue())
    return seeds


def _damage_archive(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    data = damaged(data, rng, others)
    if data[257:262] == b"ustar" and rng.random() < 0.7:
        data = with_tar_sums(data)
    return gzip.compress(data, 1) if not data.startswith(b"PK") and rng.random() < 0.2 else data


def _read_archive(path: Path) -> None:
    """As images.zip where the beginning is a zip's, else as images.tar."""
    wanted = path.with_name("images.zip" if path.read_bytes()[:2] == b"PK" else "images.tar")
    path.rename(wanted)
    try:
        for _ in decoded_batches(PictureSource(path.parent), SMALL, 2, 0, 0):
            pass
    finally:
        wanted.unlink()


def _prompt_seeds(folder: Path) -> list[bytes]:
    with hdf5_output(folder / "seed.h5", "w") as file:
        write_prompts(file, {"This product text": [1, 2, 3], "and its image": [4]})
    return [(folder / "seed.h5").read_bytes()]


def _read_prompts(path: Path) -> None:
    with open_hdf5(path) as file:
        read_prompts(path, file)


KINDS = {
    "xmc_json": Kind("trn.json", _json_seeds, _packed_now_and_then, _read_json),
    "x_y": Kind("trn_X_Y.txt", _matrix_seeds, _packed_now_and_then, lambda path: list(MatrixLines(path, 6))),
    "filter": Kind(
        "filter_labels_test.txt",
        lambda _: [b"0 1\n3 2\n", b"1\t1\r\n\r\n2 0\r\n", b"\n"],
        _packed_now_and_then,
        lambda path: read_filter(path, 4, 3),
    ),
    "npy": Kind("trn_embs_imgs_6.npy", _npy_seeds, damaged, lambda path: _store(NpyRows(path))),
    "map": Kind("train_imgs_x_6_map.npy", _map_seeds, _damage_map, lambda path: read_map(path, 4, 4)),
    "images_h5": Kind("images.h5", _images_seeds, damaged, _read_images),
    "prompts": Kind("data.h5", _prompt_seeds, damaged, _read_prompts),
    "pictures": Kind("picture", _picture_seeds, _damage_picture, lambda path: decode(path.read_bytes(), SMALL, str(path))),
    "archives": Kind("archive", _archive_seeds, _damage_archive, _read_archive),
}
