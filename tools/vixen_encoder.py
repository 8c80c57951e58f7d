"""The text-and-picture encoder of a vixen model, in PyTorch: what `vixen export` puts beside the weights.

Alone, or as the first module of a sentence-transformers folder:

    VixenEncoder.from_pretrained(FOLDER).encode(["a red house"], images=[array of shape [m, I]])
    SentenceTransformer(FOLDER, trust_remote_code=True).encode([{"text": "a red house", "images": array}])

FOLDER holds vixen_config.json (template, pooling, mask, image adapter) and either a merged Hugging Face model or a PEFT
adapter. Pictures are rows of the frozen vision model that the training data were embedded with; a text without pictures
is a plain string. Letters: b sequences of at most T positions, D width, M pictures of width I.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoModel

CONFIG = "vixen_config.json"
PROJECTION = "image_projection.safetensors"
FUSION = "fusion.safetensors"


def find_folder(name_or_path: str | Path) -> Path:
    if Path(name_or_path).is_dir():
        return Path(name_or_path)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(str(name_or_path)))


def load_backbone(folder: Path, config: dict, base: str | None, dtype: torch.dtype) -> nn.Module:
    """The merged model of the folder, or its adapter on the base model that adapter_config.json names."""
    if not (folder / "adapter_config.json").is_file():
        return AutoModel.from_pretrained(folder, dtype=dtype)
    from peft import PeftModel

    base = base or json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    model = AutoModel.from_pretrained(base, dtype=dtype, num_hidden_layers=config["layers"])
    return PeftModel.from_pretrained(model, str(folder))


def make_projection(tensors: dict[str, torch.Tensor]) -> nn.Module:
    """Linear, or linear-GELU-linear, from the names in image_projection.safetensors."""
    state = {name.removeprefix("image_projection."): value for name, value in tensors.items()}
    if "weight" in state:
        projection = nn.Linear(*reversed(state["weight"].shape))
    else:
        projection = nn.Sequential(nn.Linear(*reversed(state["0.weight"].shape)), nn.GELU(), nn.Linear(*reversed(state["2.weight"].shape)))
    projection.load_state_dict(state)
    return projection


def make_fusion(tensors: dict[str, torch.Tensor], heads: int) -> nn.Module:
    state = {name.removeprefix("fusion."): value for name, value in tensors.items()}
    feed_forward, width = state["linear1.weight"].shape
    block = nn.TransformerEncoderLayer(width, heads, feed_forward, dropout=0.0, activation="gelu", batch_first=True)
    block.load_state_dict(state)
    return block


class VixenEncoder(nn.Module):
    config_file_name = CONFIG
    save_in_root = True  # sentence-transformers: this module's files are those of the model
    modalities: ClassVar[list[str]] = ["text"]

    def __init__(
        self,
        config: dict,
        tokenizer: Tokenizer,
        backbone: nn.Module,
        image_projection: nn.Module | None = None,
        fusion: nn.Module | None = None,
        source: Path | None = None,
    ):
        super().__init__()
        self.config, self.tokenizer, self.source = config, tokenizer, source
        self.backbone, self.image_projection, self.fusion = backbone, image_projection, fusion
        self.tokenizer.no_padding()
        self.max_seq_length = config["max_length"]

    @property
    def max_seq_length(self) -> int:
        """Tokens a text is cut at, special ones included; prompts and pictures come on top."""
        return self._max_length

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        self._max_length = value
        self.tokenizer.enable_truncation(value)

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, base: str | None = None, dtype: torch.dtype = torch.float32) -> VixenEncoder:
        """base: the model that an adapter belongs to, where it is not at the place its folder names."""
        folder = find_folder(name_or_path)
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        projection = make_projection(load_file(folder / PROJECTION)) if config["images"] else None
        fusion = make_fusion(load_file(folder / FUSION), config["fusion"]["heads"]) if config["fusion"] else None
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        backbone = load_backbone(folder, config, base, dtype)
        return cls(config, tokenizer, backbone, projection, fusion, folder).eval()

    def encode(self, texts: list[str], images: list | None = None, batch_size: int = 32) -> np.ndarray:
        """Unit embeddings float32 [n, D]. images: of each text an array [m, I], or None."""
        images = [None] * len(texts) if images is None else images
        if len(images) != len(texts):
            raise ValueError(f"{len(texts)} texts, but {len(images)} entries of images")
        rows = []
        with torch.inference_mode():
            for first in range(0, len(texts), batch_size):
                part = slice(first, first + batch_size)
                inputs = [{"text": text, "images": rows_of} for text, rows_of in zip(texts[part], images[part], strict=True)]
                features = {name: value.to(self.device) for name, value in self.preprocess(inputs).items()}
                rows.append(nn.functional.normalize(self(features)["sentence_embedding"], dim=1).cpu())
        return torch.cat(rows).numpy() if rows else np.empty((0, self.get_embedding_dimension()), np.float32)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def get_embedding_dimension(self) -> int:
        return self.backbone.config.hidden_size

    get_word_embedding_dimension = get_sentence_embedding_dimension = get_embedding_dimension

    # Sequences

    def lay_out(self, text: list[int], n_images: int) -> tuple[list[int | None], list[int]]:
        """Token ids of a sequence in the template's order, None where a picture stands, and their position numbers."""
        template, images = self.config["template"], self.config["images"]
        prefix, image_prefix, closing = (template[name]["tokens"] for name in ("text_prefix", "image_prefix", "closing"))
        padded = self.config["padded_positions"]
        padded_decoder = padded and self.config["decoder"]
        if not images or not (n_images or padded_decoder):
            image_prefix = []
        ids: list[int | None] = []
        positions: list[int] = []
        end = 0  # the next number; free slots of padded positions take numbers, but no place

        def put(part: Sequence[int | None], slots: int = 0) -> None:
            nonlocal end
            ids.extend(part)
            positions.extend(range(end, end + len(part)))
            end += max(len(part), slots)

        def put_images() -> None:
            put(image_prefix)
            put([None] * n_images, images["slots"] if padded and images else 0)

        images_first = template["images_first"]
        # The token that begins every text stays in front of everything: it is the attention sink.
        moved = bool(prefix or (images_first and (n_images or image_prefix))) and text[0] == self.config["bos_token"]
        if moved:
            put(text[:1])
            text = text[1:]
        if images_first:
            put_images()
        put(prefix)
        put(text, template["text_slots"] - moved if padded_decoder else 0)
        if not images_first:
            put_images()
        put(closing)
        if self.fusion is not None:  # pictures are no positions of the backbone
            ids = [i for i in ids if i is not None]
            positions = list(range(len(ids)))
        return ids, positions

    def preprocess(self, inputs: list, prompt: str | None = None, **_: object) -> dict[str, torch.Tensor]:
        """Texts, or dicts of text and images, to input_ids, attention_mask, position_ids [b, T], image_embeddings [M, I]
        and image_places [M, 2] (sequence, position; with late fusion: sequence, place in its bag)."""
        parts = [part if isinstance(part, dict) else {"text": part} for part in inputs]
        encodings = self.tokenizer.encode_batch([(prompt or "") + part["text"] for part in parts], add_special_tokens=True)
        pictures, sequences = [], []
        for i, (part, encoding) in enumerate(zip(parts, encodings, strict=True)):
            if not encoding.ids:
                raise ValueError(f"input {i}: the text {part['text']!r} has no tokens")
            pictures.append(self._pictures(i, part.get("images")))
            sequences.append(self.lay_out(encoding.ids, len(pictures[-1])))
        longest = max(len(ids) for ids, _ in sequences)
        input_ids = torch.zeros(len(parts), longest, dtype=torch.long)
        mask, position_ids = torch.zeros_like(input_ids), torch.zeros_like(input_ids)
        places = []
        for i, (ids, positions) in enumerate(sequences):
            input_ids[i, : len(ids)] = torch.tensor([token or 0 for token in ids])
            mask[i, : len(ids)] = 1
            position_ids[i, : len(ids)] = torch.tensor(positions)
            columns = range(1, len(pictures[i]) + 1) if self.fusion is not None else [p for p, t in enumerate(ids) if t is None]
            places += [(i, column) for column in columns]
        width = self.config["images"]["width"] if self.config["images"] else 0
        return {
            "input_ids": input_ids,
            "attention_mask": mask,
            "position_ids": position_ids,
            "image_embeddings": torch.cat([torch.empty(0, width), *(p for p in pictures if len(p))]),
            "image_places": torch.tensor(places, dtype=torch.long).view(-1, 2),
        }

    tokenize = preprocess

    def _pictures(self, i: int, images: Any) -> torch.Tensor:
        if images is None or len(images) == 0:
            return torch.empty(0, 0)
        if not self.config["images"]:
            raise ValueError(f"input {i}: pictures for a model that takes none")
        rows = torch.as_tensor(np.asarray(images, np.float32))
        width = self.config["images"]["width"]
        if rows.ndim != 2 or rows.shape[1] != width:
            raise ValueError(f"input {i}: pictures of shape {list(rows.shape)}, expected [m, {width}]")
        return rows

    # The model

    def forward(self, features: dict[str, torch.Tensor], **_: object) -> dict[str, torch.Tensor]:
        """Adds sentence_embedding [b, D], float32, not normalised."""
        mask = features["attention_mask"]
        words = self.backbone.get_input_embeddings()(features["input_ids"])
        pictures = self.image_projection(features["image_embeddings"]) if self.image_projection and len(features["image_places"]) else None
        row, column = features["image_places"].unbind(1)
        if pictures is not None and self.fusion is None:
            words = words.index_put((row, column), pictures.to(words.dtype))
        states = self.backbone(
            inputs_embeds=words, attention_mask=self._attention_mask(mask, words.dtype), position_ids=features["position_ids"]
        ).last_hidden_state.float()
        if self.config["pooling"] == "last":
            pooled = states[torch.arange(len(states), device=states.device), mask.sum(1) - 1]
        elif self.config["pooling"] == "cls":  # the first token, behind the pictures where those come first
            tokens = mask.clone()
            if self.fusion is None:
                tokens[row, column] = 0
            pooled = states[torch.arange(len(states), device=states.device), tokens.argmax(1)]
        else:
            live = mask.unsqueeze(-1)
            pooled = (states * live).sum(1) / live.sum(1)
        if self.fusion is not None:
            largest = int(column.max()) if len(column) else 0
            bags = pooled.new_zeros(len(pooled), 1 + largest, pooled.shape[1])
            empty = torch.ones(bags.shape[:2], dtype=torch.bool, device=bags.device)
            bags[:, 0], empty[:, 0] = pooled, False
            if pictures is not None:
                bags[row, column], empty[row, column] = pictures, False
            pooled = self.fusion(bags, src_key_padding_mask=empty)[:, 0]
        return {**features, "sentence_embedding": pooled}

    def _attention_mask(self, mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        if self.config["mask"] == "causal" or not self.config["decoder"]:
            return mask  # the backbone's own kind
        hidden = (1 - mask)[:, None, None, :].to(dtype) * torch.finfo(dtype).min
        return hidden.expand(-1, 1, mask.shape[1], -1)

    # sentence-transformers

    @classmethod
    def load(cls, model_name_or_path: str, *_: object, model_kwargs: dict | None = None, **__: object) -> VixenEncoder:
        return cls.from_pretrained(model_name_or_path, **(model_kwargs or {}))

    def save(self, output_path: str, *_: object, **__: object) -> None:
        folder = Path(output_path)
        self.backbone.save_pretrained(folder)
        (folder / CONFIG).write_text(json.dumps(self.config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        for module, prefix, name in ((self.image_projection, "image_projection.", PROJECTION), (self.fusion, "fusion.", FUSION)):
            if module is not None:
                save_file({prefix + key: value.contiguous() for key, value in module.state_dict().items()}, folder / name)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            if self.source and (self.source / name).is_file() and self.source.resolve() != folder.resolve():
                shutil.copy(self.source / name, folder / name)
