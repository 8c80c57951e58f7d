"""picture_decode.py: the pixel of every mode that Pillow opens a picture in, as docs/data-format.md has it, and the refusal of the rest."""

from __future__ import annotations

import io
import struct
import zlib

import conftest  # noqa: F401  puts tools/ on the path
import numpy as np
import pytest
from PIL import Image

from vixen_tools.errors import UserError
from vixen_tools.picture_decode import Preprocess, decode

HOW = Preprocess(4, int(Image.Resampling.BICUBIC))


def saved(picture: Image.Image, kind: str, **more) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **more)
    return file.getvalue()


def grey(value: float, dtype) -> Image.Image:
    return Image.fromarray(np.full((4, 4), value, dtype))


def pixel(data: bytes, row: int = 1, column: int = 1) -> list[int]:
    return decode(data, HOW)[row, column].tolist()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(bits: int, colours: int, row: bytes, transparent: bytes, side: int = 4) -> bytes:
    """side x side pixels of four equal rows, with a tRNS chunk: what Pillow does not write."""
    header = struct.pack(">IIBBBBB", side, side, bits, colours, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"tRNS", transparent)
        + chunk(b"IDAT", zlib.compress(4 * (b"\0" + row)))
        + chunk(b"IEND", b"")
    )


def palette(transparency) -> bytes:
    picture = Image.new("P", (4, 4), 1)
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.putpixel((2, 1), 0)
    return saved(picture, "PNG", transparency=transparency)


@pytest.mark.parametrize(
    "name, data, expected",
    [
        ("1", saved(Image.new("1", (4, 4), 1), "PNG"), [255] * 3),
        ("L", saved(grey(77, np.uint8), "PNG"), [77] * 3),
        ("LA", saved(Image.new("LA", (4, 4), (100, 51)), "PNG"), [224] * 3),  # 100 * 0.2 + 255 * 0.8
        ("RGB", saved(Image.new("RGB", (4, 4), (1, 2, 3)), "PNG"), [1, 2, 3]),
        ("RGBA", saved(Image.new("RGBA", (4, 4), (0, 100, 200, 51)), "PNG"), [204, 224, 244]),
        ("RGBA of WebP", saved(Image.new("RGBA", (4, 4), (0, 100, 200, 0)), "WEBP", lossless=True), [255] * 3),
        ("P", palette(None), [200, 100, 50]),
        ("P with one transparent colour", palette(1), [255] * 3),
        ("P with alpha for each colour", palette(bytes([255, 51])), [244, 224, 214]),
        ("CMYK", saved(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "TIFF"), [255, 0, 0]),
        ("YCbCr", saved(Image.new("RGB", (16, 16), (90, 90, 90)), "JPEG", quality=100), [90] * 3),
        ("I;16 of PNG", saved(grey(0x8080, np.uint16), "PNG"), [128] * 3),
        ("I;16 of PNG, dark", saved(grey(300, np.uint16), "PNG"), [1] * 3),
        ("I;16 of TIFF", saved(grey(65535, np.uint16), "TIFF"), [255] * 3),
        ("I of PGM", saved(grey(0x4040, np.uint16), "PPM"), [64] * 3),
        ("I of TIFF, 16 bits", saved(grey(0x4040, np.int32), "TIFF"), [64] * 3),
        ("I of TIFF, 8 bits", saved(grey(200, np.int32), "TIFF"), [200] * 3),
        ("F from 0 to 1", saved(grey(0.2, np.float32), "TIFF"), [51] * 3),
        ("F to 255", saved(grey(200.4, np.float32), "TIFF"), [200] * 3),
        ("grey of 16 bits with tRNS: another pixel", png(16, 0, struct.pack(">4H", 0x1234, 0x8080, 0, 0), b"\x12\x34"), [128] * 3),
        ("grey of 2 bits with tRNS", png(2, 0, b"\x55", b"\0\1"), [255] * 3),
        ("grey of 2 bits with another tRNS", png(2, 0, b"\x55", b"\0\2"), [85] * 3),
        (
            "RGB of 16 bits with tRNS",
            png(16, 2, struct.pack(">12H", *[0x1234, 0x5678, 0x9ABC] * 4), bytes.fromhex("123456789abc")),
            [255] * 3,
        ),
        ("RGB of 16 bits with another tRNS", png(16, 2, struct.pack(">12H", *[0x1234, 0x5678, 0x9ABC] * 4), bytes(6)), [0x12, 0x56, 0x9A]),
        ("DDS", saved(Image.new("RGBA", (4, 4), (7, 8, 9, 255)), "DDS"), [7, 8, 9]),
    ],
)
def test_modes(name, data, expected):
    assert pixel(data) == expected


def test_transparent_grey_of_16_bits():
    data = png(16, 0, struct.pack(">4H", 0x1234, 0x8080, 0, 0), b"\x12\x34")
    assert pixel(data, 1, 0) == [255] * 3 and pixel(data, 1, 2) == [0] * 3


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_turned_as_exif_says(kind, turn):
    """As transformers' load_image: Pillow's exif_transpose, of a picture whose four quarters differ."""
    pixels = np.kron(np.array([[0, 80], [160, 240]], np.uint8), np.ones((8, 8), np.uint8))
    upright = Image.fromarray(np.stack([pixels] * 3, -1))
    backwards = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[turn]  # what the camera did to it: the turn's inverse
    stored = upright if backwards is None else upright.transpose(Image.Transpose(backwards))
    exif = Image.Exif()
    exif[0x0112] = turn
    more = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "JPEG" else {}
    got = decode(saved(stored, kind, exif=exif, **more), Preprocess(16, int(Image.Resampling.BICUBIC)))
    assert np.abs(got.astype(int)[4::8, 4::8, 0] - pixels[4::8, 4::8]).max() <= 3


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        more = {"lossless": True} if kind == "WEBP" else {}
        assert pixel(saved(frames[0], kind, save_all=True, append_images=frames[1:], **more)) == [255, 0, 0]


def tiff(bits: int, photometric: int, values: bytes, sample_format: int = 1) -> bytes:
    """A grey TIFF of 4 x 4, uncompressed. photometric: 0 where zero is white, 1 where it is black; sample_format: 2 for signed."""
    tags = {
        256: 4,
        257: 4,
        258: bits,
        259: 1,
        262: photometric,
        273: 8 + 2 + 12 * 10 + 4,
        277: 1,
        278: 4,
        279: len(values),
        339: sample_format,
    }
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + values


@pytest.mark.parametrize(
    "data, expected",
    [
        (tiff(8, 0, bytes([200] * 16)), 55),
        (tiff(16, 1, np.full(16, 65535, "<u2").tobytes()), 255),
        (tiff(16, 0, np.full(16, 65535, "<u2").tobytes()), 0),
        (tiff(16, 0, np.full(16, 16384, "<u2").tobytes()), 191),
        (tiff(12, 1, b"\xff" * 24), 255),
        (tiff(32, 0, np.full(16, 0.25, "<f4").tobytes(), 3), 191),
    ],
)
def test_grey_of_a_tiff_as_its_tags_say(data, expected):
    assert pixel(data) == [expected] * 3


@pytest.mark.parametrize(
    "data, expected",
    [
        (tiff(16, 1, np.full(16, 32767, "<i2").tobytes(), 2), "holds signed grey values of 16 bits, expected unsigned ones"),
        (b"", "it is empty"),
        (b"<html><body>404</body></html>", "it is an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "it is a Git LFS pointer"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "it is an SVG drawing"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "it is a HEIC picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n", "not a picture in a format that can be read, it is 58 bytes"),
        (saved(grey(70000, np.int32), "TIFF"), "holds grey values from 70000 to 70000 (mode I), expected 0..65535"),
        (saved(grey(-1, np.int32), "TIFF"), "holds grey values from -1 to -1"),
        (saved(grey(np.nan, np.float32), "TIFF"), "holds grey values from nan to nan (mode F)"),
        (saved(grey(1e9, np.float32), "TIFF"), "holds grey values from 1e+09"),
        (saved(Image.new("RGB", (64, 64)), "PNG")[:60], "not a picture that can be read"),
        (saved(Image.new("RGB", (64, 64)), "PNG").replace(b"IHDR\0", b"IHDR\1"), "it is damaged where a PNG picture begins"),
        (png(8, 0, b"", b"\0\0", 60000), "not a picture that can be read: Image size (3600000000 pixels) exceeds limit"),
    ],
)
def test_refused(data, expected):
    with pytest.raises(UserError) as caught:
        decode(data, HOW, "images.zip: picture 'a.png'")
    line = str(caught.value)
    assert line.startswith("images.zip: picture 'a.png': ") and expected in line and " at 0x" not in line


def test_what_a_format_does_not_implement_is_one_line():
    """A DDS of a compression that Pillow does not know raises NotImplementedError."""
    data = bytearray(saved(Image.new("RGBA", (4, 4)), "DDS"))
    data[80:84] = struct.pack("<I", 4)  # pixel format: by four letters
    data[84:88] = b"ABCD"
    with pytest.raises(UserError, match="picture: not a picture that can be read"):
        decode(bytes(data), HOW)
