"""One side of lora_step.py: training steps of transformers + PEFT, padded as the ViXML authors' code pads, in a process of its own.

text padded to T tokens, S picture slots: [text prefix][text, pads][image prefix][slots][closing], W positions in all
B queries and B labels a step, each [B, W, D] through the decoder; mean over live positions; PRIME's loss
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from vixen_tools import rendering  # noqa: E402
from vixen_tools.errors import run_tool  # noqa: E402
from vixen_tools.hdf5_file import open_hdf5, read_attribute, read_dataset  # noqa: E402
from vixen_tools.process_memory import memory_of, reset_peak  # noqa: E402


@dataclass
class Rows:
    """Ragged tokens and picture rows of queries or labels."""

    token_offsets: np.ndarray
    tokens: np.ndarray
    image_offsets: np.ndarray
    image_rows: np.ndarray

    @staticmethod
    def read(file: h5py.File, side: str) -> Rows:
        return Rows(
            *(
                read_dataset(file, f"{side}/{name}", "iu", 1)
                for name in ("tokens/offsets", "tokens/values", "images/offsets", "images/values")
            )
        )

    def padded_tokens(self, rows: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Token ids [B, T] (pads 0) and their mask."""
        ids, mask = np.zeros((len(rows), width), np.int64), np.zeros((len(rows), width), np.int64)
        for place, row in enumerate(rows):
            tokens = self.tokens[self.token_offsets[row] : self.token_offsets[row + 1]][:width]
            ids[place, : len(tokens)], mask[place, : len(tokens)] = tokens, 1
        return ids, mask

    def padded_images(self, rows: np.ndarray, slots: int, embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Picture embeddings float32 [B, S, I] (zeros where there is none) and their mask."""
        images, mask = np.zeros((len(rows), slots, embeddings.shape[1]), np.float32), np.zeros((len(rows), slots), np.int64)
        for place, row in enumerate(rows):
            found = self.image_rows[self.image_offsets[row] : self.image_offsets[row + 1]][:slots]
            images[place, : len(found)], mask[place, : len(found)] = embeddings[found], 1
        return images, mask


class PaddedEncoder(nn.Module):
    """The decoder with adapters, the prompt's embeddings and the picture projection."""

    def __init__(self, options: argparse.Namespace, image_width: int) -> None:
        super().__init__()
        dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
        base = AutoModel.from_pretrained(options.model, dtype=dtype, attn_implementation="eager")
        if options.layers:
            base.layers = base.layers[: options.layers]
            base.config.num_hidden_layers = options.layers
        base.config.use_cache = False
        modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        adapters = LoraConfig(
            r=options.rank, lora_alpha=options.rank, use_rslora=True, target_modules=modules, lora_dropout=0.0, bias="none"
        )
        self.decoder = get_peft_model(base, adapters)
        if options.checkpointing:
            self.decoder.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            self.decoder.enable_input_require_grads()
        self.width = base.config.hidden_size
        self.project = nn.Linear(image_width, self.width) if image_width else None
        tokenizer = AutoTokenizer.from_pretrained(options.model)
        pieces = ["This product text", "and its image", "<|endoftext|>"]
        self.prefix, self.image_prefix, self.closing = (tokenizer(piece, add_special_tokens=False).input_ids for piece in pieces)

    def words(self, ids: torch.Tensor | list[int], rows: int) -> torch.Tensor:
        """Embeddings [B, n, D] of ids [B, n], or of the same prompt in every row."""
        if isinstance(ids, list):
            ids = torch.tensor(ids).expand(rows, -1)
        return self.decoder.get_input_embeddings()(ids)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, images: torch.Tensor, image_mask: torch.Tensor) -> torch.Tensor:
        """Mean of the live positions, float32 [B, D]."""
        rows = len(ids)
        ones = lambda piece: torch.ones(rows, len(piece), dtype=torch.int64)  # noqa: E731
        parts, masks = [self.words(self.prefix, rows), self.words(ids, rows)], [ones(self.prefix), mask]
        if self.project is not None:
            parts += [self.words(self.image_prefix, rows), self.project(images).to(parts[0].dtype)]
            masks += [ones(self.image_prefix), image_mask]
        parts.append(self.words(self.closing, rows))
        masks.append(ones(self.closing))
        mask = torch.cat(masks, 1)
        output = self.decoder(inputs_embeds=torch.cat(parts, 1), attention_mask=mask).last_hidden_state.float()
        live = mask[:, :, None].float()
        return (output * live).sum(1) / live.sum(1)


class Trainer:
    """Data, modules and optimiser of the measured step."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.random = options, np.random.default_rng(0)
        with open_hdf5(options.data) as file:
            self.queries, self.labels = (Rows.read(file, side) for side in ("train", "label"))
            self.truth = tuple(read_dataset(file, f"train/labels/{part}", "iu", 1) for part in ("offsets", "values"))
            self.max_length, self.slots = read_attribute(file, "max_length", int, 0), read_attribute(file, "max_images", int, 0)
            self.embeddings = read_dataset(file, "images/embeddings", "f", 2) if self.slots else np.zeros((0, 0), np.float16)
        torch.manual_seed(0)
        self.encoder = PaddedEncoder(options, self.embeddings.shape[1])
        width, n_labels = self.encoder.width, len(self.labels.token_offsets) - 1
        self.prototype = nn.TransformerEncoderLayer(width, 8, 1024, dropout=0.1, activation="gelu", batch_first=True)
        self.free_vectors = nn.Parameter(torch.randn(options.free_vectors, width) / width**0.5)
        self.centroids = F.normalize(torch.randn(n_labels, width))
        self.encoder.train()
        trained = [parameter for module in (self.encoder, self.prototype) for parameter in module.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.AdamW(
            [{"params": trained, "weight_decay": 0.01}, {"params": [self.free_vectors], "weight_decay": 0.0}], lr=5e-5, eps=1e-6
        )
        self.all_trained = [*trained, self.free_vectors]

    def batch(self) -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
        """Rows of a step: queries, one positive label of each, and which pairs are relevant (bool [B, B])."""
        queries = self.random.choice(len(self.queries.token_offsets) - 1, self.options.batch_size, replace=False)
        offsets, values = self.truth
        sets = [values[offsets[row] : offsets[row + 1]] for row in queries]
        labels = np.array([self.random.choice(found) for found in sets])
        return queries, labels, torch.from_numpy(np.stack([np.isin(labels, found) for found in sets]))

    def inputs(self, rows: Rows, numbers: np.ndarray) -> list[torch.Tensor]:
        arrays = [*rows.padded_tokens(numbers, self.max_length), *rows.padded_images(numbers, self.slots, self.embeddings)]
        return [torch.from_numpy(array) for array in arrays]

    def step(self) -> float:
        queries, labels, relevant = self.batch()
        autocast = torch.autocast("cpu", torch.bfloat16) if self.options.precision == "bf16" else nullcontext()
        with autocast:
            h = self.encoder(*self.inputs(self.queries, queries))
            u = self.encoder(*self.inputs(self.labels, labels))
            free = self.free_vectors[torch.from_numpy(labels % self.options.free_vectors)]
            z = rendering.prototypes(self.prototype, u, free, self.centroids[torch.from_numpy(labels)])
        draws = {
            name: torch.multinomial(truth.float(), 1)[:, 0]
            for name, truth in (("u", relevant), ("uv", relevant), ("i", relevant.T), ("r", relevant))
        }
        loss = rendering.prime_loss(F.normalize(h), F.normalize(u), F.normalize(z.float()), relevant, draws)["loss"]
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.all_trained, 1.0)
        self.optimiser.step()
        return loss.item()

    def positions(self) -> int:
        """Of a step, pads included."""
        encoder = self.encoder
        pictures = len(encoder.image_prefix) + self.slots if self.slots else 0
        return 2 * self.options.batch_size * (len(encoder.prefix) + self.max_length + pictures + len(encoder.closing))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--precision", choices=("fp32", "bf16"), required=True)
    parser.add_argument("--checkpointing", action="store_true")
    for name in ("layers", "rank", "batch-size", "free-vectors", "steps", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    trainer = Trainer(options)
    before = reset_peak("self")
    seconds, losses = [], []
    for _ in range(options.steps + 1):  # the first one warms up
        start = time.perf_counter()
        losses.append(trainer.step())
        seconds.append(time.perf_counter() - start)
    print(
        json.dumps(
            {
                "seconds": seconds[1:],
                "losses": losses,
                "before_bytes": before,
                "peak_bytes": memory_of("self").peak_bytes,
                "positions": trainer.positions(),
                "trained": sum(parameter.numel() for parameter in trainer.all_trained),
            }
        )
    )


if __name__ == "__main__":
    run_tool(main)
