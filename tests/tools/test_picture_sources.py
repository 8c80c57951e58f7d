"""picture_archives.py and pictures.py: every picture of a folder, zip or tar is read right, or one line names it."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
import zipfile
from pathlib import Path

import conftest  # noqa: F401  puts tools/ on the path
import numpy as np
import pytest
from PIL import Image

from vixen_tools import picture_archives
from vixen_tools.errors import UserError
from vixen_tools.picture_decode import Preprocess
from vixen_tools.pictures import PictureSource, decoded_batches

HOW = Preprocess(2, int(Image.Resampling.BICUBIC))


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((2, 2), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def values(raw: Path, workers: int = 0) -> dict[str, int]:
    return {
        name: int(pixels[0, 0, 0])
        for names, batch in decoded_batches(PictureSource(raw), HOW, 2, 0, workers)
        for name, pixels in zip(names, batch, strict=True)
    }


def fails(raw: Path) -> str:
    with pytest.raises(UserError) as caught:
        values(raw)
    return str(caught.value)


def zip_of(path: Path, method: int = zipfile.ZIP_DEFLATED, **members: int) -> bytearray:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, value in (members or {"a": 1, "b": 2}).items():
            archive.writestr(f"images/{name}.png", png(value))
    return bytearray(path.read_bytes())


def tar_of(path: Path, members: list[tuple[str, int]] | None = None, **how) -> bytes:
    with tarfile.open(path, "w", **how) as archive:
        for name, value in members or [("images/a.png", 1), ("images/b.png", 2)]:
            info = tarfile.TarInfo(name)
            info.size = len(png(value))
            archive.addfile(info, io.BytesIO(png(value)))
    return path.read_bytes()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("workers", [0, 1])
def test_zip_methods(tmp_path, method, workers):
    zip_of(tmp_path / "images.zip", method)
    if workers == 0 or method == zipfile.ZIP_DEFLATED:
        assert values(tmp_path, workers) == {"a.png": 1, "b.png": 2}


@pytest.mark.parametrize("method, name", [(9, "Deflate64"), (93, "Zstandard"), (99, "AES"), (1234, "unknown")])
def test_zip_method_that_is_not_read(tmp_path, method, name):
    data = zip_of(tmp_path / "images.zip")
    struct.pack_into("<H", data, data.rindex(b"PK\x01\x02") + 10, method)
    (tmp_path / "images.zip").write_bytes(data)
    assert f"images.zip: picture 'images/b.png': is compressed with method {method} ({name}), expected Deflate" in fails(tmp_path)


def test_zip_encrypted_member(tmp_path):
    data = zip_of(tmp_path / "images.zip")
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "images.zip").write_bytes(data)
    assert "images.zip: picture 'images/b.png': is encrypted" in fails(tmp_path)


def test_zip_names(tmp_path):
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("images/cafZZ.png", png(1))
        archive.writestr("oldZ.png", png(2))
        archive.writestr("../../up.png", png(3))
        archive.writestr("/root.png", png(4))
        archive.writestr("flag\u00e9.png", png(5))
        windows = zipfile.ZipInfo("images/sub.png")
        windows.create_system = 0
        windows.filename = "images\\sub\\w.png"
        archive.writestr(windows, png(6))
    data = (tmp_path / "images.zip").read_bytes()
    # UTF-8 without the flag, and a byte of code page 437
    (tmp_path / "images.zip").write_bytes(data.replace(b"cafZZ", "caf\u00e9".encode()).replace(b"oldZ", b"old\x82"))
    assert values(tmp_path) == {
        "caf\u00e9.png": 1,
        "old\u00e9.png": 2,
        "../../up.png": 3,
        "/root.png": 4,
        "flag\u00e9.png": 5,
        "sub/w.png": 6,
    }
    assert not list(tmp_path.parent.glob("up.png"))


def test_zip_same_name_link_and_bomb(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("images/a.png", png(1))
        archive.writestr("./a.png", png(2))
    assert "two members have the same picture name 'a.png': 'images/a.png' and './a.png'" in fails(tmp_path)
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        link = zipfile.ZipInfo("a.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "b.png")
    assert "picture 'a.png': is a symbolic link" in fails(tmp_path)
    monkeypatch.setattr(picture_archives, "PICTURE_BYTES", 1 << 16)
    with zipfile.ZipFile(tmp_path / "images.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(1 << 20))
    assert "picture 'a.png': holds 1,048,576 bytes, expected at most 65,536" in fails(tmp_path)


def test_zip_damage(tmp_path):
    data = zip_of(tmp_path / "images.zip", zipfile.ZIP_STORED)
    (tmp_path / "images.zip").write_bytes(data.replace(b"IDAT", b"IDAX", 1))
    assert "images.zip: picture 'images/a.png': not a readable member of a zip file: Bad CRC-32" in fails(tmp_path)
    (tmp_path / "images.zip").write_bytes(data[: len(data) // 2])
    assert "images.zip: not a readable zip file" in fails(tmp_path)
    (tmp_path / "images.zip").write_bytes(b"<!DOCTYPE html><html></html>")
    assert "images.zip: not a readable zip file: it is an HTML page" in fails(tmp_path)


@pytest.mark.parametrize("ending, pack", [("tar", bytes), ("tar.gz", gzip.compress), ("tgz", gzip.compress)])
def test_tar(tmp_path, ending, pack):
    data = tar_of(tmp_path / "x")
    (tmp_path / f"images.{ending}").write_bytes(pack(data))
    assert values(tmp_path) == {"a.png": 1, "b.png": 2}


def test_tar_damage_is_never_the_end(tmp_path):
    """tarfile takes a damaged or missing header for the end of the archive: pictures would be lost without a word."""
    data = tar_of(tmp_path / "x")
    second = data.index(b"images/b.png")
    for name, content, expected in (
        ("header", data[:second] + b"X" + data[second + 1 :], "images.tar: not a readable tar file"),
        ("cut in a header", data[: second + 100], "truncated header"),
        ("cut before a header", data[:second], f"ends without an end mark at byte {second:,}"),
        ("cut in a picture", data[: second + 530], "unexpected end of data"),
        ("joined", data + data, "images.tar: holds more behind its end mark"),
    ):
        (tmp_path / "images.tar").write_bytes(content)
        assert expected in fails(tmp_path), name
        (tmp_path / "images.tar").write_bytes(gzip.compress(content))
        assert expected in fails(tmp_path), name
    packed = gzip.compress(data)
    (tmp_path / "images.tar").write_bytes(packed[:-20])
    assert "images.tar: not a readable tar file, plain or of gzip, bzip2 or xz" in fails(tmp_path)
    (tmp_path / "images.tar").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(100))
    assert "images.tar: is compressed with Zstandard" in fails(tmp_path)
    (tmp_path / "images.tar").write_bytes(b"")
    assert "images.tar: not a readable tar file, plain or of gzip, bzip2 or xz: it is empty" in fails(tmp_path)


def test_tar_links_and_long_names(tmp_path):
    with tarfile.open(tmp_path / "images.tar", "w") as archive:
        info = tarfile.TarInfo("a.png")
        info.size = len(png(1))
        archive.addfile(info, io.BytesIO(png(1)))
        link = tarfile.TarInfo("b.png")
        link.type, link.linkname = tarfile.LNKTYPE, "a.png"
        archive.addfile(link)
    assert "picture 'b.png': is a link to a.png: pack the pictures themselves" in fails(tmp_path)
    for layout in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        long_name = f"{'folder/' * 40}a.png"
        tar_of(tmp_path / "images.tar", [(long_name, 7)], format=layout)
        assert values(tmp_path) == {long_name: 7}
    data = bytearray(tar_of(tmp_path / "images.tar", [("x" * 150 + ".png", 1)], format=tarfile.GNU_FORMAT))
    data[124:136] = b"77777777777\0"  # a name of 8 GB
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    (tmp_path / "images.tar").write_bytes(data)
    assert "a name of 8,589,934,591 bytes" in fails(tmp_path)


def test_names_that_are_not_utf8_are_left_out(tmp_path, capsys):
    (tmp_path / "folder/images").mkdir(parents=True)
    (tmp_path / "folder/images/good.png").write_bytes(png(1))
    with open(os.fsencode(tmp_path / "folder/images") + b"/caf\xe9.png", "wb") as file:
        file.write(png(2))
    (tmp_path / "tar").mkdir()
    tar_of(
        tmp_path / "tar/images.tar",
        [("caf\u00e9.png", 2), ("good.png", 1), ("\u00fc.png", 3)],
        encoding="latin-1",
        format=tarfile.USTAR_FORMAT,
    )
    for raw, count in ((tmp_path / "folder", 1), (tmp_path / "tar", 2)):
        assert values(raw) == {"good.png": 1}
        assert (
            f"left out {count} with names that are not UTF-8, the first is 'caf\\xe9.png': no row can name them" in capsys.readouterr().err
        )


def test_folder_links(tmp_path):
    (tmp_path / "raw/images").mkdir(parents=True)
    (tmp_path / "elsewhere/deep").mkdir(parents=True)
    (tmp_path / "elsewhere/deep/a.png").write_bytes(png(3))
    (tmp_path / "raw/images/sub").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "raw/images/b.png").symlink_to(tmp_path / "elsewhere/deep/a.png")
    assert values(tmp_path / "raw") == {"b.png": 3, "sub/deep/a.png": 3}
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "raw/images")
    assert "images/sub/back: is a link to a folder that it lies in" in fails(tmp_path / "raw")
    (tmp_path / "elsewhere/back").unlink()
    (tmp_path / "raw/images/c.png").symlink_to(tmp_path / "nothing")
    assert "images/c.png: is a link to" in fails(tmp_path / "raw")


def test_which_container_is_used(tmp_path, capsys):
    zip_of(tmp_path / "images.zip")
    (tmp_path / "images").mkdir()
    (tmp_path / "images/only.png").write_bytes(png(9))
    assert values(tmp_path) == {"only.png": 9}
    assert "has images and images.zip: images is used, the rest is not" in capsys.readouterr().err


def test_identity_is_of_the_content(tmp_path):
    zip_of(tmp_path / "images.zip", a=1, b=2)
    first = PictureSource(tmp_path)
    zip_of(tmp_path / "images.zip", a=1, b=3)
    second = PictureSource(tmp_path)
    assert first.identity("a.png") == second.identity("a.png") and first.identity("b.png") != second.identity("b.png")
    (tmp_path / "images.zip").unlink()
    tar_of(tmp_path / "images.tar")
    first = PictureSource(tmp_path)
    tar_of(tmp_path / "images.tar", [("images/a.png", 1), ("images/b.png", 3)])
    second = PictureSource(tmp_path)
    assert first.identity("a.png") == second.identity("a.png") and first.identity("b.png") != second.identity("b.png")
