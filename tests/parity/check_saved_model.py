#!/usr/bin/env python3
"""Loads a folder that vixen's Encoder::save wrote with AutoModel and prints how far its embeddings are from a golden's.

    check_saved_model.py FOLDER GOLDEN.safetensors
"""

import pathlib
import sys

import torch
import transformers
from safetensors.torch import load_file

from rendering import embed_sequence


def main():
    folder, golden = pathlib.Path(sys.argv[1]), load_file(sys.argv[2])
    transformers.logging.set_verbosity_error()
    model, report = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager", output_loading_info=True)
    missing = [name for name in report["missing_keys"] if not name.startswith("pooler.")]  # BERT's pooler is not used
    if missing or report["unexpected_keys"]:
        sys.exit(f"missing {missing}, unexpected {report['unexpected_keys']}")
    weights = load_file(folder / "image_projection.safetensors")
    projection = torch.nn.Linear(*reversed(weights["image_projection.weight"].shape))
    projection.load_state_dict({name.removeprefix("image_projection."): value for name, value in weights.items()})

    ends, places = golden["batch.cu_seqlens"].tolist(), golden["batch.image_positions"].tolist()
    worst = 0.0
    with torch.no_grad():
        for i, (begin, end) in enumerate(zip(ends, ends[1:])):
            rows = [row for row, place in enumerate(places) if begin <= place < end]
            h = embed_sequence(model.eval(), projection, golden["batch.tokens"][begin + len(rows):end], golden["batch.image_embeddings"][rows])
            worst = max(worst, float((h - golden["float64"][i]).abs().max()))
    print(f"max difference {worst:.3e}")


if __name__ == "__main__":
    main()
