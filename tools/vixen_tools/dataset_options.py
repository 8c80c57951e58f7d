"""What every way to a data set shares: its options, the data set's own facts, and the closing line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from . import VERSION
from .arguments import finite, whole
from .dataset_builder import DatasetMeta, propensity_constants
from .errors import UserError
from .files import identity
from .tokens import TextTokenizer


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Options that every way to a data set has."""
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face folder whose tokenizer.json is used")
    parser.add_argument("--out", type=Path, required=True, help="data set to write (HDF5)")
    parser.add_argument("--max-length", type=whole(), default=32, help="tokens a text is cut at, special ones included (default 32)")
    parser.add_argument("--max-images", type=whole(), help="keep the first N pictures of a row (default: all)")
    parser.add_argument("--name", help="name shown in reports (default: the folder's)")
    parser.add_argument("--propensity-a", type=finite, help="default by name: Amazon .6, Wikipedia .5, else .55")
    parser.add_argument("--propensity-b", type=finite, help="default by name: Amazon 2.6, Wikipedia .4, else 1.5")
    parser.add_argument(
        "--prompt",
        action="append",
        default=[],
        metavar="STRING",
        help="also store this piece of a prompt, tokenised by itself (repeatable; the default template's are always stored)",
    )
    parser.add_argument("--drop-empty", action="store_true", help="drop rows without text and training rows without labels")
    parser.add_argument("--keep-empty", action="store_true", help="keep rows without text as their special tokens alone")


def meta_of(options: argparse.Namespace, folder: Path, text: str, tool: str) -> DatasetMeta:
    name = options.name or folder.resolve().name
    a, b = propensity_constants(name)
    a = a if options.propensity_a is None else options.propensity_a
    b = b if options.propensity_b is None else options.propensity_b
    return DatasetMeta(name=name, text=text, propensity_a=a, propensity_b=b, created_by=f"{tool} {VERSION}", prompts=tuple(options.prompt))


def made_from(
    options: argparse.Namespace, tool: str, tokenizer: TextTokenizer, inputs: Iterable[Path | None], *more: str
) -> dict[str, str]:
    """What decides the content of the data set's sides, by the name under which a person knows it: options (those that all ways have,
    and `more`) and inputs by their content."""
    names = ("max_length", "max_images", "drop_empty", "keep_empty", *more)
    return {
        "tool": f"{tool} {VERSION}",
        "tokenizer.json": f"{tokenizer.sha256} tokenizers {version('tokenizers')}",
        **{f"--{name.replace('_', '-')}": str(getattr(options, name)) for name in names},
        **{path.name: identity(path) for path in inputs if path},
    }


def check_options(options: argparse.Namespace) -> None:
    if options.drop_empty and options.keep_empty:
        raise UserError("--drop-empty and --keep-empty exclude each other")
    if options.max_images is not None and options.max_images < 0:
        raise UserError(f"--max-images {options.max_images}: expected 0 or more")


def report(out: Path, counts: dict[str, int]) -> None:
    print(f"{out}: {', '.join(f'{count:,} {what}' for what, count in counts.items())}, {out.stat().st_size / 1e6:.1f} MB", file=sys.stderr)
