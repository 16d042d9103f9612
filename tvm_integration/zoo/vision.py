"""Convolutional networks and the perceptron of the zoo. Imports torch; see `zoo` for the names."""

import torch
from torch import nn
from torch.nn import functional as F

from tvm_integration.zoo.batch_norm import calibrate_batch_norm

_PROBE_SHAPE = (8, 3, 64, 64)


def init_convolutions(network: nn.Module) -> None:
    """Draw weights as He et al. 2015 do, and vary the affine part of the normalization."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.0)
            nn.init.normal_(layer.bias, std=0.1)


def convolution(
    channels_in: int, channels_out: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """A convolution that keeps the image's size but for its stride, and its normalization."""
    return nn.Sequential(
        nn.Conv2d(
            channels_in,
            channels_out,
            kernel,
            stride=stride,
            padding=kernel // 2,
            groups=groups,
            bias=False,
        ),
        nn.BatchNorm2d(channels_out),
    )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut: He et al. 2016."""

    expansion = 1

    def __init__(self, channels_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(channels_in, width, 3, stride=stride)
        self.second = convolution(width, width, 3)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and channels_in == width
            else convolution(channels_in, width, 1, stride=stride)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images in, images out: `[batch, channels, height, width]`."""
        y = self.second(F.relu(self.first(x)))
        return F.relu(y + self.shortcut(x))


class Bottleneck(nn.Module):
    """A 3x3 convolution between two of 1x1, beside a shortcut: He et al. 2016."""

    expansion = 4

    def __init__(self, channels_in: int, width: int, stride: int) -> None:
        super().__init__()
        channels_out = width * self.expansion
        self.reduce = convolution(channels_in, width, 1)
        self.spatial = convolution(width, width, 3, stride=stride)
        self.expand = convolution(width, channels_out, 1)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and channels_in == channels_out
            else convolution(channels_in, channels_out, 1, stride=stride)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images in, images out: `[batch, channels, height, width]`."""
        y = F.relu(self.spatial(F.relu(self.reduce(x))))
        return F.relu(self.expand(y) + self.shortcut(x))


class _ResNet(nn.Module):
    def __init__(
        self, block: type[BasicBlock] | type[Bottleneck], depths: tuple[int, ...], classes: int
    ) -> None:
        super().__init__()
        self.stem = convolution(3, 64, 7, stride=2)
        channels = 64
        blocks: list[nn.Module] = []
        for stage, depth in enumerate(depths):
            width = 64 * 2**stage
            for i in range(depth):
                blocks.append(block(channels, width, stride=2 if i == 0 and stage > 0 else 1))
                channels = width * block.expansion
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.stem(x)), 3, stride=2, padding=1)
        x = self.blocks(x)
        logits: torch.Tensor = self.classifier(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))
        return logits


def _vision(
    network: nn.Module, batch: int, image: int
) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    init_convolutions(network)
    # A batch of fixed shape, so that the weights do not depend on `batch` and `image`.
    calibrate_batch_norm(network, (torch.randn(_PROBE_SHAPE),))
    return network, (torch.randn(batch, 3, image, image),)


def resnet18(*, batch: int, image: int, classes: int) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Build ResNet-18: He et al. 2016, "Deep Residual Learning for Image Recognition", table 1."""
    return _vision(_ResNet(BasicBlock, (2, 2, 2, 2), classes), batch, image)


def resnet50(*, batch: int, image: int, classes: int) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Build ResNet-50 of He et al. 2016, table 1, with the stride on the 3x3 convolution.

    The paper has the stride on the first 1x1; Goyal et al. 2017 moved it, and so do the usual
    implementations ("v1.5").
    """
    return _vision(_ResNet(Bottleneck, (3, 4, 6, 3), classes), batch, image)


class _InvertedResidual(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = channels_in * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [convolution(channels_in, width, 1), nn.ReLU6()]
        layers += [
            convolution(width, width, 3, stride=stride, groups=width),
            nn.ReLU6(),
            convolution(width, channels_out, 1),
        ]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layers(x)
        return x + y if self.residual else y


# Expansion t, channels c, repeats n, stride s: Sandler et al. 2018, table 2.
_MOBILENET_V2_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class _MobileNetV2(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [convolution(3, 32, 3, stride=2), nn.ReLU6()]
        channels = 32
        for expansion, channels_out, repeats, stride in _MOBILENET_V2_STAGES:
            for i in range(repeats):
                layers.append(
                    _InvertedResidual(channels, channels_out, stride if i == 0 else 1, expansion)
                )
                channels = channels_out
        layers += [convolution(channels, 1280, 1), nn.ReLU6()]
        self.layers = nn.Sequential(*layers)
        self.classifier = nn.Linear(1280, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.adaptive_avg_pool2d(self.layers(x), 1)
        logits: torch.Tensor = self.classifier(torch.flatten(x, 1))
        return logits


def mobilenet_v2(
    *, batch: int, image: int, classes: int
) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Build MobileNetV2 1.0: Sandler et al. 2018, "Inverted Residuals and Linear Bottlenecks"."""
    return _vision(_MobileNetV2(classes), batch, image)


def mlp(*, batch: int) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Build the 784-800-800-10 perceptron for MNIST of Hinton et al. 2012 (arXiv 1207.0580)."""
    network = nn.Sequential(
        nn.Linear(784, 800), nn.ReLU(), nn.Linear(800, 800), nn.ReLU(), nn.Linear(800, 10)
    )
    return network, (torch.randn(batch, 784),)
