#!/usr/bin/env python3
"""Loads a model folder that vixen wrote as a user of Python would, and prints how far its embeddings are from those expected.

    check_saved_model.py FOLDER BATCH.safetensors [--expected NAME] [--resave OTHER]

FOLDER: config.json and weights (AutoModel), or a PEFT adapter (PeftModel over the base that adapter_config.json names), with
image_projection.safetensors beside it. BATCH holds a packed batch ("batch.*") and the embeddings NAME (float64). --resave writes
the adapter again, by PEFT.
"""

import argparse
import json
import pathlib
import shutil
import sys

import torch
import transformers
from safetensors.torch import load_file

from golden_tools import double_means_double, embed, unpack


def load(folder):
    """The model, without anything missing or left over."""
    adapter = folder / "adapter_config.json"
    base = json.loads(adapter.read_text())["base_model_name_or_path"] if adapter.exists() else folder
    model, report = transformers.AutoModel.from_pretrained(base, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    missing = [name for name in report["missing_keys"] if not name.startswith("pooler.")]  # BERT's pooler is not used
    unexpected = [name for name in report["unexpected_keys"] if name != "lm_head.weight" or not adapter.exists()]
    if missing or unexpected:
        sys.exit(f"missing {missing}, unexpected {unexpected}")
    if adapter.exists():
        import peft

        model = peft.PeftModel.from_pretrained(model, folder)
        ours, loaded = load_file(folder / "adapter_model.safetensors"), peft.get_peft_model_state_dict(model)
        if sorted(ours) != sorted(loaded) or not all(torch.equal(ours[name], loaded[name]) for name in ours):
            sys.exit(f"PEFT holds other adapters than the file: {sorted(set(ours) ^ set(loaded))}")
    return model.eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("batch", type=pathlib.Path)
    parser.add_argument("--expected", default="float64")
    parser.add_argument("--resave", type=pathlib.Path)
    options = parser.parse_args()
    folder, batch = options.folder, load_file(options.batch)
    transformers.logging.set_verbosity_error()
    model = load(folder)
    weights = load_file(folder / "image_projection.safetensors")
    projection = torch.nn.Linear(*reversed(weights["image_projection.weight"].shape))
    projection.load_state_dict({name.removeprefix("image_projection."): value for name, value in weights.items()})
    with double_means_double():
        h = embed(model, projection, unpack(batch), torch.float64)
    if options.resave:
        shutil.rmtree(options.resave, ignore_errors=True)
        model.save_pretrained(options.resave)
        shutil.copy(folder / "image_projection.safetensors", options.resave)
    print(f"max difference {float((h - batch[options.expected]).abs().max()):.3e}")


if __name__ == "__main__":
    main()
