#!/usr/bin/env python3
"""Adds strings to the prompts of a data set, tokenised: what a run's [template] may use. Without STRING, the default ones.

The file is replaced at once when the new one is whole; runs that have it open go on with the old one.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np

from vixen_tools.dataset_builder import FORMAT, FORMAT_VERSION
from vixen_tools.errors import UserError, reading, run_tool
from vixen_tools.files import publish, work_folder
from vixen_tools.hdf5_file import open_hdf5, read_attribute
from vixen_tools.hdf5_output import hdf5_output
from vixen_tools.outputs import claim_edit
from vixen_tools.progress import waiting
from vixen_tools.prompts import GROUP, read_prompts, write_prompts
from vixen_tools.tokens import TextTokenizer


def check_dataset(path: Path, file: h5py.File, tokenizer: TextTokenizer) -> None:
    found = read_attribute(file, "format", str), read_attribute(file, "version", int)
    if found != (FORMAT, FORMAT_VERSION):
        raise UserError(f"{path}: attributes format and version are {found[0]!r}, {found[1]!r}, expected '{FORMAT}', {FORMAT_VERSION}")
    made_with = read_attribute(file, "tokenizer_sha256", str, "")
    if made_with != tokenizer.sha256:
        raise UserError(
            f"{path}: tokenised with a tokenizer.json of SHA-256 {made_with[:12]} ({read_attribute(file, 'tokenizer', str)}), "
            f"the model {tokenizer.name} has {tokenizer.sha256[:12]}: give the model that the data set was made with"
        )


def rewrite(path: Path, prompts: dict[str, list[int]], bos_token: int) -> None:
    """Puts a copy with these prompts in the file's place; nothing of the file is held in memory."""
    with work_folder(path) as folder:
        temporary = folder / "data.h5"
        shutil.copyfile(path, temporary)
        with hdf5_output(temporary, "r+") as file:
            with reading(path, "a readable HDF5 data set"):
                if GROUP in file:
                    del file[GROUP]
            write_prompts(file, prompts)
            file.attrs["bos_token"] = np.int64(bos_token)
        publish(temporary, path, edited=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA.h5", help="data set of prepare_dataset.py or import_official.py")
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face folder with the tokenizer.json that made the data set")
    parser.add_argument("strings", nargs="*", metavar="STRING", help="piece of a prompt, tokenised by itself, as it stands")
    options = parser.parse_intermixed_args()
    tokenizer = TextTokenizer(options.model, None)
    data = claim_edit(options.data, {"--model": options.model}, "DATA.h5", 0)
    with open_hdf5(options.data) as file:
        check_dataset(options.data, file, tokenizer)
        prompts = read_prompts(options.data, file)
        complete = "bos_token" in file.attrs
    added = [text for text in dict.fromkeys(options.strings or tokenizer.default_prompts()) if text not in prompts]
    prompts |= tokenizer.encode_prompts(added)
    if added or not complete:
        claim_edit(options.data, {}, "DATA.h5", data.stat().st_size)
        with waiting(f"{data.name}: written"):
            rewrite(data, prompts, tokenizer.bos_token)
    for text, ids in prompts.items():
        print(f"{'added' if text in added else 'there'}  {text!r}  {' '.join(map(str, ids))}", file=sys.stderr)


if __name__ == "__main__":
    run_tool(main)
