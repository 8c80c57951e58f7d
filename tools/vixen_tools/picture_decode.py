"""One picture file's bytes to S x S pixels of RGB: the rule for each of Pillow's modes (docs/data-format.md has the table).

S: input size in pixels. This file must not import torch: every decoding process imports it.
"""

from __future__ import annotations

import io
import logging
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from .content import what_bytes_are
from .errors import UserError, reading

DECODER = 3
"""Number of the rules below: part of what decides an embedding, so that work begun under other rules is not gone on with."""

# Pillow logs some damage besides raising it
logging.getLogger("PIL").addHandler(logging.NullHandler())

# What Pillow decodes by itself. Others would start programs (EPS) or only know the header.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "ICO", "ICNS", "PPM", "TGA", "PCX", "JPEG2000", "DDS", "SGI")
_READABLE = "a picture that can be read"
_GREY_STEPS = {"L;2": 85, "L;4": 17}


@dataclass(frozen=True)
class Preprocess:
    """How a picture becomes S x S pixels: the resampling filter of PIL."""

    size: int
    resample: int


def decode(data: bytes, how: Preprocess, where: str = "picture") -> np.ndarray:
    """uint8 [S, S, 3]: RGB, turned as its EXIF says, what is transparent over white, resized without keeping the aspect (as the
    vision models do). `where` names it in the UserError of what cannot be read."""
    with reading(where, _READABLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd but readable files
        with _open(data, where) as picture:
            is_pgm, stored = picture.format == "PPM", _stored_grey(picture)
            _mend_transparency(picture)
            picture.load()
            turned = ImageOps.exif_transpose(picture)
    rgb = (
        _grey_to_rgb(turned, is_pgm, stored, where)
        if turned.mode in ("I", "F") or turned.mode.startswith("I;16")
        else _to_rgb(turned, where)
    )
    if rgb.size != (how.size, how.size):
        with reading(where, _READABLE):
            rgb = rgb.resize((how.size, how.size), how.resample)
    return np.asarray(rgb)


@dataclass(frozen=True)
class _StoredGrey:
    """What a TIFF says of its grey, and Pillow leaves to its user."""

    bits: int = 16
    is_signed: bool = False
    zero_is_white: bool = False


def _stored_grey(picture: Any) -> _StoredGrey:
    if picture.format != "TIFF":
        return _StoredGrey()
    tags = picture.tag_v2
    first = lambda tag, default: value[0] if isinstance(value := tags.get(tag, default), tuple) else value  # noqa: E731
    return _StoredGrey(first(258, 1), first(339, 1) == 2, first(262, 1) == 0)


def _open(data: bytes, where: str) -> Image.Image:
    Image.init()
    try:
        return Image.open(io.BytesIO(data), formats=[name for name in _FORMATS if name in Image.OPEN])
    except Image.UnidentifiedImageError:
        raise UserError(f"{where}: not a picture in a format that can be read, it is {_what_it_is(data)}") from None


def _what_it_is(data: bytes) -> str:
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"mif1", b"hevc"):
        return "a HEIC picture (convert it to JPEG or PNG)"
    if b"<svg" in data[:1024]:
        return "an SVG drawing (convert it to PNG)"
    found = what_bytes_are(data)
    if found and found.endswith("picture"):
        return f"damaged where {found} begins"
    return found or f"{len(data):,} bytes that begin with {data[:8].hex(' ')}"


def _mend_transparency(picture: Any) -> None:
    """Pillow brings a PNG's pixels to 8 bits, but leaves the transparent grey or colour in the file's 2, 4 or 16."""
    transparent = picture.info.get("transparency")
    if picture.format != "PNG" or transparent is None or not picture.tile:
        return
    stored_as = picture.tile[0].args
    if isinstance(transparent, int) and stored_as in _GREY_STEPS:
        picture.info["transparency"] = transparent * _GREY_STEPS[stored_as]
    elif isinstance(transparent, tuple) and stored_as == "RGB;16B":
        picture.info["transparency"] = tuple(value >> 8 for value in transparent)


def _to_rgb(picture: Image.Image, where: str) -> Image.Image:
    with reading(where, _READABLE):
        if picture.mode not in ("RGBA", "LA", "PA", "RGBa", "La") and picture.info.get("transparency") is None:
            return picture.convert("RGB")
        if picture.mode == "La":
            picture = picture.convert("LA")
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def _grey_to_rgb(picture: Image.Image, is_pgm: bool, stored: _StoredGrey, where: str) -> Image.Image:
    """Grey of more than 8 bits, which Pillow's own convert() would cut off at 255."""
    with reading(where, _READABLE):
        values = np.asarray(picture).astype(np.float32)
    low, high = float(values.min()), float(values.max())
    if stored.is_signed and stored.bits <= 16:
        raise UserError(f"{where}: holds signed grey values of {stored.bits} bits, expected unsigned ones: save it with 8 bits a colour")
    # Pillow scales a PGM of more than 8 bits to 16; the 32 bits of a TIFF may hold 8 or 16
    if picture.mode != "F" and (picture.mode != "I" or is_pgm or high > 255):
        limit = 2**stored.bits - 1 if 8 < stored.bits < 16 else 65535
        scale = 255 / limit
    elif picture.mode == "F" and high <= 1:
        scale, limit = 255.0, 1
    else:
        scale, limit = 1.0, 255
    if not (low >= 0 and high <= limit):  # also a NaN
        raise UserError(
            f"{where}: holds grey values from {low:g} to {high:g} (mode {picture.mode}), expected 0..65535, or as floats "
            "0..1 or 0..255: save it with 8 bits a colour"
        )
    with reading(where, _READABLE):  # a large one may not fit into memory
        transparent = picture.info.get("transparency")
        is_white = values == transparent if isinstance(transparent, int) else None
        values *= scale
        if stored.zero_is_white:
            np.subtract(255, values, out=values)
        grey = np.rint(values, out=values).astype(np.uint8)
        if is_white is not None:
            grey[is_white] = 255
        return Image.fromarray(grey).convert("RGB")
