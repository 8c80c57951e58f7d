"""Frozen vision models behind one interface: uint8 pictures in, pooled embeddings out.

b: pictures of a batch; S: input size in pixels; I: width of an embedding.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import xxhash
from PIL import Image

from .errors import UserError, one_line, reading
from .picture_decode import Preprocess

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
    _model: torch.nn.Module

    def __init__(self, device: torch.device, dtype: torch.dtype, mean: Sequence[float], std: Sequence[float]):
        self._device, self._dtype = device, dtype
        # pixels / 255, minus mean, by std, as one multiplication and one addition
        by = torch.tensor(std, dtype=torch.float32)
        self._scale = (1 / (255 * by)).view(1, 3, 1, 1).to(device)
        self._shift = (-torch.tensor(mean, dtype=torch.float32) / by).view(1, 3, 1, 1).to(device)

    @torch.inference_mode()
    def embed(self, pictures: np.ndarray) -> np.ndarray:
        """uint8 [b, S, S, 3] -> float32 [b, I]. What memory does not hold is a UserError."""
        try:
            pixels = torch.from_numpy(pictures).to(self._device).permute(0, 3, 1, 2)  # channels last as it lies
            pixels = torch.addcmul(self._shift, pixels.float(), self._scale)
            return self._forward(pixels).float().cpu().numpy()
        except RuntimeError as error:  # torch has a type of its own for this on a GPU only
            if not (isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)):
                raise
            raise UserError(
                f"a batch of {len(pictures)} pictures at {self.preprocess.size} px does not fit into the memory of "
                f"{self._device}: try a smaller --batch"
            ) from None

    def content(self) -> str:
        """A hash of what decides an embedding: weights, mean and standard deviation of colours, device."""
        content = xxhash.xxh3_64(self._device.type.encode())
        for tensor in (self._scale, self._shift, *self._model.state_dict().values()):
            content.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
        return content.hexdigest()

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
            raise UserError(
                f"model '{name}' takes pictures of any size (NaFlex); expected one of a fixed size, as google/siglip2-so400m-patch14-384"
            )
        _check_settings(name, settings)
        super().__init__(device, dtype, _colours(name, settings, "image_mean"), _colours(name, settings, "image_std"))
        self.name = Path(name).name if Path(name).is_dir() else name
        self.preprocess = Preprocess(_input_size(name, settings, size), _resample(name, settings))
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
                raise UserError(
                    f"model '{name}' could not be had from the Hugging Face hub ({one_line(error, 200)}); expected "
                    f"{EFFICIENTNET}, a local folder or a repository that can be reached"
                ) from None
        if not path.is_file():
            raise UserError(f"{path}: no such file, expected in a Hugging Face vision model's folder")
        with reading(path, "JSON"):
            content = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(content, dict):
            raise UserError(f"{path}: holds a JSON {type(content).__name__}, expected an object")
        out.append(content)
    return out[0], out[1]


def expected_width(name: str) -> int:
    """Width of the model's embeddings as its configuration says it, before its weights are loaded; 1 where it does not say."""
    if name == EFFICIENTNET:
        from .efficientnet import WIDTH

        return WIDTH
    config, _ = _read_configs(name)
    vision = config.get("vision_config", config)
    width = vision.get("hidden_size") if isinstance(vision, dict) else None
    return width if isinstance(width, int) and 0 < width < 1 << 20 else 1


def _check_settings(name: str, settings: dict) -> None:
    """Steps of the preprocessing that are always done here must not be switched off in the file."""
    for step in ("do_resize", "do_rescale", "do_normalize"):
        if settings.get(step, True) is not True:
            raise UserError(f"model '{name}': preprocessor_config.json has {step} {one_line(settings[step], 40)}, expected true (SigLIP2)")
    factor = settings.get("rescale_factor", 1 / 255)
    if not isinstance(factor, (int, float)) or abs(factor * 255 - 1) > 1e-3:
        raise UserError(f"model '{name}': preprocessor_config.json has rescale_factor {one_line(factor, 40)}, expected 1/255")


def _colours(name: str, settings: dict, key: str) -> list[float]:
    """image_mean or image_std: three finite numbers, those of a standard deviation above 0."""
    found = settings.get(key, [0.5] * 3)
    whole = isinstance(found, list) and len(found) == 3 and all(isinstance(value, (int, float)) and abs(value) < 1e3 for value in found)
    if not whole or (key == "image_std" and min(found) <= 0):
        raise UserError(f"model '{name}': preprocessor_config.json has {key} {one_line(found, 80)}, expected three numbers")
    return [float(value) for value in found]


def _resample(name: str, settings: dict) -> int:
    found = settings.get("resample", int(Image.Resampling.BICUBIC))
    if type(found) is not int or found not in set(Image.Resampling):
        raise UserError(
            f"model '{name}': preprocessor_config.json has resample {one_line(found, 40)}, expected one of Pillow's filters 0..5"
        )
    return found


def _input_size(name: str, settings: dict, size: int | None) -> int:
    found = settings.get("size", {})
    square = isinstance(found, dict) and type(found.get("height")) is int and 0 < found["height"] == found.get("width")
    if not square or settings.get("do_center_crop"):
        raise UserError(
            f"model '{name}': preprocessor_config.json has size {found} and do_center_crop "
            f"{settings.get('do_center_crop')}, expected a square size without cropping (SigLIP2)"
        )
    return size or found["height"]


def open_model(name: str, size: int | None, device: torch.device, dtype: torch.dtype) -> VisionModel:
    """A vision model by name, folder or hub repository; size None: its own."""
    if name == EFFICIENTNET:
        return EfficientNet(size, device, dtype)
    return Transformer(name, size, device, dtype)
