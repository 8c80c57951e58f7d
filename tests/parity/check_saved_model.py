#!/usr/bin/env python3
"""Loads model folders that vixen wrote as a user of Python would, and prints how far their embeddings are from those expected.

    check_saved_model.py JOBS.json

JOBS is a list of {"folder", "batch", "expected", "resave"}. folder: config.json and weights (AutoModel), or a PEFT adapter
(PeftModel over the base that adapter_config.json names), with image_projection.safetensors beside it. batch: a safetensors file
with a packed batch ("batch.*") and the embeddings `expected`, compared in float64. resave: where PEFT writes the adapter again,
or empty. Prints a line for each: the largest difference, or why it did not load.
"""

import json
import pathlib
import shutil
import sys

import torch
import transformers
from golden_tools import double_means_double, embed, unpack
from safetensors.torch import load_file


def load(folder):
    """The model, without anything missing or left over."""
    adapter = folder / "adapter_config.json"
    base = json.loads(adapter.read_text())["base_model_name_or_path"] if adapter.exists() else folder
    model, report = transformers.AutoModel.from_pretrained(base, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    missing = [name for name in report["missing_keys"] if not name.startswith("pooler.")]  # BERT's pooler is not used
    unexpected = [name for name in report["unexpected_keys"] if name != "lm_head.weight" or not adapter.exists()]
    if missing or unexpected:
        raise ValueError(f"missing {missing}, unexpected {unexpected}")
    if adapter.exists():
        import peft

        model = peft.PeftModel.from_pretrained(model, folder)
        ours, loaded = load_file(folder / "adapter_model.safetensors"), peft.get_peft_model_state_dict(model)
        if sorted(ours) != sorted(loaded) or not all(torch.equal(ours[name], loaded[name]) for name in ours):
            raise ValueError(f"PEFT holds other adapters than the file: {sorted(set(ours) ^ set(loaded))}")
    return model.eval()


def difference(job):
    folder, batch = pathlib.Path(job["folder"]), load_file(job["batch"])
    model = load(folder)
    weights = load_file(folder / "image_projection.safetensors")
    projection = torch.nn.Linear(*reversed(weights["image_projection.weight"].shape))
    projection.load_state_dict({name.removeprefix("image_projection."): value for name, value in weights.items()})
    with double_means_double():
        h = embed(model, projection, unpack(batch), torch.float64)
    if job["resave"]:
        model.save_pretrained(job["resave"])
        shutil.copy(folder / "image_projection.safetensors", job["resave"])
    return float((h - batch[job["expected"]]).abs().max())


def main():
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for job in json.loads(pathlib.Path(sys.argv[1]).read_text()):
        try:
            print(f"max difference {difference(job):.3e}", flush=True)
        except Exception as error:  # the other jobs go on
            print(f"{job['folder']}: {type(error).__name__}: {' '.join(str(error).split())}", flush=True)


if __name__ == "__main__":
    main()
