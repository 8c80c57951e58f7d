"""Frozen vision models behind one interface: uint8 pictures in, pooled embeddings out.

b: pictures of a batch; S: input size in pixels; I: width of an embedding.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .errors import UserError, one_line
from .pictures import Preprocess

EFFICIENTNET = "efficientnet-lite0"


def choose_precision(precision: str, device: torch.device) -> torch.dtype:
    """auto: bf16 where the hardware multiplies it (a GPU, AVX-512 BF16 or AMX), fp32 elsewhere: emulated bf16 is slower."""
    if precision != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    capability = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    native = capability.get("avx512_bf16") or capability.get("amx_bf16")
    if not capability:
        native = torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if native else torch.float32


class VisionModel:
    """The base: embed() normalises and calls _forward."""

    name: str
    width: int
    preprocess: Preprocess

    def __init__(self, device: torch.device, dtype: torch.dtype, mean, std):
        self._device, self._dtype = device, dtype
        # pixels / 255, minus mean, by std, as one multiplication and one addition
        std = torch.tensor(std, dtype=torch.float32)
        self._scale = (1 / (255 * std)).view(1, 3, 1, 1).to(device)
        self._shift = (-torch.tensor(mean, dtype=torch.float32) / std).view(1, 3, 1, 1).to(device)

    @torch.inference_mode()
    def embed(self, pictures: np.ndarray) -> np.ndarray:
        """uint8 [b, S, S, 3] -> float32 [b, I]."""
        pixels = torch.from_numpy(pictures).to(self._device).permute(0, 3, 1, 2)  # channels last as it lies
        pixels = torch.addcmul(self._shift, pixels.float(), self._scale)
        return self._forward(pixels).float().cpu().numpy()

    def _forward(self, pixels: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


class EfficientNet(VisionModel):
    """EfficientNet-lite0, ImageNet mean and std, bicubic; any size that is a multiple of 32."""

    def __init__(self, size: int | None, device: torch.device, dtype: torch.dtype):
        from .efficientnet import MEAN, STD, WIDTH, EfficientNetLite0

        super().__init__(device, dtype, MEAN, STD)
        size = 224 if size is None else size
        if size < 32 or size % 32:
            raise UserError(f"--input-size {size}: expected a multiple of 32 for {EFFICIENTNET}")
        self.name, self.width = EFFICIENTNET, WIDTH
        self.preprocess = Preprocess(size, Image.Resampling.BICUBIC)
        self._model = EfficientNetLite0().eval().to(device, dtype, memory_format=torch.channels_last)

    def _forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self._model(pixels.to(self._dtype, memory_format=torch.channels_last))


class Transformer(VisionModel):
    """A model of transformers with a pooled vision output (SigLIP and SigLIP2 of fixed size); raw pooled output, not normalised."""

    def __init__(self, name: str, size: int | None, device: torch.device, dtype: torch.dtype):
        try:
            from transformers import AutoModel
        except ImportError:
            raise UserError(f"model '{name}' needs the package transformers") from None
        config, settings = _read_configs(name)
        kind = config.get("model_type")
        if kind == "siglip2" or "pixel_attention_mask" in settings.get("model_input_names", []):
            raise UserError(f"model '{name}' takes pictures of any size (NaFlex); expected one of a fixed size, "
                            "as google/siglip2-so400m-patch14-384")
        super().__init__(device, dtype, settings.get("image_mean", (0.5,) * 3), settings.get("image_std", (0.5,) * 3))
        self.name = Path(name).name if Path(name).is_dir() else name
        self.preprocess = Preprocess(_input_size(name, settings, size), int(settings.get("resample", Image.Resampling.BICUBIC)))
        try:
            whole = AutoModel.from_pretrained(name, dtype=torch.float32)
        except Exception as error:  # damaged weights, offline: many types
            raise UserError(f"model '{name}' cannot be loaded: {one_line(error, 200)}") from None
        self._model = getattr(whole, "vision_model", whole).eval().to(device).requires_grad_(False)
        self._resized = size is not None
        with torch.inference_mode():
            probe = torch.zeros(1, 3, self.preprocess.size, self.preprocess.size, device=device)
            self.width = self._forward(probe).shape[1]

    def _forward(self, pixels: torch.Tensor) -> torch.Tensor:
        extra = {"interpolate_pos_encoding": True} if self._resized else {}
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
            pooled = self._model(pixel_values=pixels, **extra).pooler_output
        if pooled is None:
            raise UserError(f"model '{self.name}' has no pooled output, expected a vision model with one (SigLIP2)")
        return pooled


def _read_configs(name: str) -> tuple[dict, dict]:
    """config.json and preprocessor_config.json of a folder or of a repository on the hub."""
    out = []
    for file in ("config.json", "preprocessor_config.json"):
        path = Path(name) / file
        if not Path(name).is_dir():
            try:
                from huggingface_hub import hf_hub_download

                path = Path(hf_hub_download(name, file))
            except Exception as error:  # offline, unknown, gated
                raise UserError(f"model '{name}' could not be had from the Hugging Face hub ({one_line(error, 200)}); expected "
                                f"{EFFICIENTNET}, a local folder or a repository that can be reached") from None
        if not path.is_file():
            raise UserError(f"{path}: no such file, expected in a Hugging Face vision model's folder")
        try:
            out.append(json.loads(path.read_text()))
        except ValueError as error:
            raise UserError(f"{path}: not JSON: {one_line(error, 100)}") from None
    return out[0], out[1]


def _input_size(name: str, settings: dict, size: int | None) -> int:
    found = settings.get("size", {})
    square = isinstance(found, dict) and found.get("height") and found.get("height") == found.get("width")
    if not square or settings.get("do_center_crop"):
        raise UserError(f"model '{name}': preprocessor_config.json has size {found} and do_center_crop "
                        f"{settings.get('do_center_crop')}, expected a square size without cropping (SigLIP2)")
    return size or int(found["height"])


def open_model(name: str, size: int | None, device: torch.device, dtype: torch.dtype) -> VisionModel:
    """A vision model by name, folder or hub repository; size None: its own."""
    if name == EFFICIENTNET:
        return EfficientNet(size, device, dtype)
    return Transformer(name, size, device, dtype)
