"""Families of small networks of the zoo: a number draws one. Imports torch; see `zoo` for names.

They are for measuring whole networks by the hundred, so each takes well under half a second
unscheduled: small images, few layers. Shapes are drawn by Python's own generator from the family's
name and the number, and are the same everywhere.
"""

from functools import reduce
from random import Random
from typing import TypeAlias

import torch
from torch import nn
from torch.nn import functional as F

from tvm_integration.zoo.batch_norm import calibrate_batch_norm
from tvm_integration.zoo.transformers import EncoderLayer, MixerLayer, Patches, init_linear
from tvm_integration.zoo.vision import BasicBlock, Bottleneck, convolution, init_convolutions

Drawn: TypeAlias = tuple[nn.Module, tuple[torch.Tensor, ...]]
"""A network and its example inputs."""

CLASSES = 10


def _vision(network: nn.Module, draw: Random, sides: tuple[int, ...]) -> Drawn:
    """Give weights, and draw the size of the image."""
    side = draw.choice(sides)
    init_convolutions(network)
    calibrate_batch_norm(network, (torch.randn(8, 3, side, side),))
    return network, (torch.randn(draw.choice((1, 1, 1, 2)), 3, side, side),)


class _Classifier(nn.Module):
    """The mean over the image, and a linear layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.linear(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))
        return logits


def _unit(channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(convolution(channels_in, channels_out, kernel, stride=stride), nn.ReLU())


def plain(*, number: int) -> Drawn:
    """Draw a network of convolutions one after the other: Simonyan and Zisserman 2015."""
    draw = Random(f"plain {number}")
    width, channels = draw.choice((8, 12, 16, 24)), 3
    layers: list[nn.Module] = []
    for stage in range(draw.choice((3, 4))):
        for _ in range(draw.choice((1, 2, 2, 3))):
            layers.append(_unit(channels, width << stage, draw.choice((3, 3, 3, 5))))
            channels = width << stage
        layers.append(nn.MaxPool2d(2))
    hidden = draw.choice((64, 128, 256))
    head = [nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, CLASSES)]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head)
    return _vision(network, draw, (32, 48, 64))


def residual(*, number: int) -> Drawn:
    """Draw a ResNet: He et al. 2016."""
    draw = Random(f"residual {number}")
    width = draw.choice((8, 12, 16, 24, 32))
    block = draw.choice((BasicBlock, Bottleneck))
    if block is Bottleneck:
        width = max(8, width // 2)
    layers: list[nn.Module] = [_unit(3, width, 3, draw.choice((1, 2)))]
    channels = width
    for stage in range(draw.choice((3, 3, 4))):
        for place in range(draw.choice((1, 2, 3))):
            stride = 2 if stage and not place else 1
            layers.append(block(channels, width << stage, stride))
            channels = (width << stage) * block.expansion
    return _vision(nn.Sequential(*layers, _Classifier(channels)), draw, (32, 48, 64))


class _Cell(nn.Module):
    """Four nodes, each the sum of the earlier ones after an operation on each edge."""

    OPERATIONS = ("none", "skip", "conv1", "conv3", "pool")

    def __init__(self, channels: int, operations: list[str]) -> None:
        super().__init__()
        kernels = {"conv1": 1, "conv3": 3}
        self.edges = nn.ModuleList(
            nn.Sequential(nn.ReLU(), convolution(channels, channels, kernels[name]))
            if name in kernels
            else nn.AvgPool2d(3, 1, 1)
            if name == "pool"
            else nn.Identity()
            for name in operations
        )
        self.used = [name != "none" for name in operations]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        nodes = [x]
        edge = 0
        for node in range(1, 4):
            parts = []
            for source in range(node):
                if self.used[edge]:
                    parts.append(self.edges[edge](nodes[source]))
                edge += 1
            nodes.append(reduce(torch.add, parts) if parts else torch.zeros_like(x))
        return nodes[-1]


def nasbench201(*, number: int) -> Drawn:
    """Draw a cell of NAS-Bench-201 and stack it: Dong and Yang 2020, with fewer cells a stage."""
    draw = Random(f"nasbench201 {number}")
    operations = [draw.choice(_Cell.OPERATIONS) for _ in range(6)]
    if not any(name.startswith("conv") for name in operations[3:]):
        operations[3] = "conv3"  # the last node must see something that is computed
    width, cells = draw.choice((8, 16, 16)), draw.choice((1, 2, 3))
    layers: list[nn.Module] = [convolution(3, width, 3)]
    for stage in range(3):
        channels = width << stage
        if stage:
            layers.append(BasicBlock(channels // 2, channels, 2))
        layers += [_Cell(channels, operations) for _ in range(cells)]
    return _vision(nn.Sequential(*layers, nn.ReLU(), _Classifier(channels)), draw, (32,))


class _Squeeze(nn.Module):
    """Weigh channels by what the whole image says: Hu et al. 2018."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = max(8, channels // 4)
        self.reduce = nn.Conv2d(channels, narrow, 1)
        self.expand = nn.Conv2d(narrow, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = self.expand(F.relu(self.reduce(F.adaptive_avg_pool2d(x, 1))))
        return x * F.hardsigmoid(weights)


class _MobileBlock(nn.Module):
    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        kernel: int,
        expand: int,
        stride: int,
        modern: bool,
    ) -> None:
        super().__init__()
        width = channels_in * expand
        activation = nn.Hardswish if modern else nn.ReLU
        self.layers = nn.Sequential(
            convolution(channels_in, width, 1),
            activation(),
            convolution(width, width, kernel, stride=stride, groups=width),
            activation(),
            _Squeeze(width) if modern else nn.Identity(),
            convolution(width, channels_out, 1),
        )
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layers(x)
        return x + y if self.residual else y


def once_for_all(*, number: int) -> Drawn:
    """Draw a sub-network of Once-for-All, Cai et al. 2020: depth, kernels and widths."""
    draw = Random(f"once_for_all {number}")
    scale = draw.choice((0.5, 0.75, 1.0))
    channels = 16
    layers: list[nn.Module] = [_unit(3, channels, 3, 2)]
    for stage, (base, stride) in enumerate(((24, 2), (40, 2), (80, 2), (112, 1))):
        width = max(8, int(base * scale) // 8 * 8)
        for place in range(draw.choice((1, 2, 3))):
            layers.append(
                _MobileBlock(
                    channels,
                    width,
                    kernel=draw.choice((3, 5, 7)),
                    expand=draw.choice((3, 4, 6)),
                    stride=1 if place else stride,
                    modern=stage >= 1,
                )
            )
            channels = width
    return _vision(nn.Sequential(*layers, _Classifier(channels)), draw, (64, 80, 96, 128))


class _Dense(nn.Module):
    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _unit(channels, 4 * growth, 1), convolution(4 * growth, growth, 3), nn.ReLU()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.layers(x)], dim=1)


def dense(*, number: int) -> Drawn:
    """Draw a DenseNet: Huang et al. 2017."""
    draw = Random(f"dense {number}")
    growth, channels = draw.choice((8, 12, 16)), draw.choice((16, 24))
    layers: list[nn.Module] = [_unit(3, channels, 3, draw.choice((1, 2)))]
    for stage in range(3):
        for _ in range(draw.choice((2, 3, 4, 6))):
            layers.append(_Dense(channels, growth))
            channels += growth
        if stage < 2:
            layers += [_unit(channels, channels // 2, 1), nn.AvgPool2d(2)]
            channels //= 2
    return _vision(nn.Sequential(*layers, _Classifier(channels)), draw, (32, 48, 64))


class _Fire(nn.Module):
    def __init__(self, channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = _unit(channels, squeeze, 1)
        self.small = _unit(squeeze, expand, 1)
        self.large = _unit(squeeze, expand, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.squeeze(x)
        return torch.cat([self.small(x), self.large(x)], dim=1)


def fire(*, number: int) -> Drawn:
    """Draw a SqueezeNet: Iandola et al. 2016."""
    draw = Random(f"fire {number}")
    channels = draw.choice((16, 24, 32))
    layers: list[nn.Module] = [_unit(3, channels, 3, 2)]
    for stage in range(3):
        squeeze = draw.choice((8, 12, 16)) << stage
        for _ in range(draw.choice((1, 2, 3))):
            layers.append(_Fire(channels, squeeze, 2 * squeeze))
            channels = 4 * squeeze
        layers.append(nn.MaxPool2d(3, 2, 1))
    return _vision(nn.Sequential(*layers, _Classifier(channels)), draw, (48, 64, 96))


class _Shuffle(nn.Module):
    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        narrow = channels // 4
        self.reduce = nn.Sequential(convolution(channels, narrow, 1, groups=groups), nn.ReLU())
        self.spatial = convolution(narrow, narrow, 3, groups=narrow)
        self.expand = convolution(narrow, channels, 1, groups=groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.reduce(x)
        batch, channels, height, width = y.shape
        y = y.reshape(batch, self.groups, channels // self.groups, height, width)
        y = y.transpose(1, 2).reshape(batch, channels, height, width)
        return F.relu(x + self.expand(self.spatial(y)))


def shuffle(*, number: int) -> Drawn:
    """Draw a ShuffleNet: Zhang et al. 2018."""
    draw = Random(f"shuffle {number}")
    groups = draw.choice((2, 4))
    width = draw.choice((32, 48, 64))
    layers: list[nn.Module] = [_unit(3, width, 3, 2)]
    for stage in range(3):
        channels = width << stage
        if stage:
            layers.append(_unit(channels // 2, channels, 1, 2))
        layers += [_Shuffle(channels, groups) for _ in range(draw.choice((1, 2, 3, 4)))]
    return _vision(nn.Sequential(*layers, _Classifier(channels)), draw, (48, 64, 96))


class _Branches(nn.Module):
    def __init__(self, channels: int, widths: tuple[int, int, int, int]) -> None:
        super().__init__()
        one, three, five, pool = widths
        self.one = _unit(channels, one, 1)
        self.three = nn.Sequential(_unit(channels, three // 2, 1), _unit(three // 2, three, 3))
        self.five = nn.Sequential(_unit(channels, five // 2, 1), _unit(five // 2, five, 5))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), _unit(channels, pool, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], dim=1)


def inception(*, number: int) -> Drawn:
    """Draw an Inception network: Szegedy et al. 2015."""
    draw = Random(f"inception {number}")
    channels = draw.choice((16, 24, 32))
    layers: list[nn.Module] = [_unit(3, channels, 3, 2)]
    for stage in range(draw.choice((2, 3))):
        for _ in range(draw.choice((1, 2, 3))):
            unit = draw.choice((8, 12, 16)) << stage
            widths = (unit, 2 * unit, unit, unit // 2)
            layers.append(_Branches(channels, widths))
            channels = sum(widths)
        layers.append(nn.MaxPool2d(2))
    return _vision(nn.Sequential(*layers, _Classifier(channels)), draw, (32, 48, 64))


class _UNet(nn.Module):
    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        sizes = [width << level for level in range(depth)]
        self.down = nn.ModuleList(
            nn.Sequential(_unit(before, size, 3), _unit(size, size, 3))
            for before, size in zip([3, *sizes], sizes, strict=False)
        )
        self.up = nn.ModuleList(
            nn.Sequential(_unit(3 * size, size, 3), _unit(size, size, 3))
            for size in reversed(sizes[:-1])
        )
        self.head = nn.Conv2d(width, CLASSES, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = []
        for number, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if number else x)
            kept.append(x)
        for block, other in zip(self.up, reversed(kept[:-1]), strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0), other], dim=1))
        maps: torch.Tensor = self.head(x)
        return maps


def unet(*, number: int) -> Drawn:
    """Draw a U-Net: Ronneberger et al. 2015, padded and with batch normalization."""
    draw = Random(f"unet {number}")
    network = _UNet(draw.choice((4, 6, 8, 12)), draw.choice((2, 3, 4)))
    return _vision(network, draw, (32, 48, 64))


class _Encoder(nn.Module):
    def __init__(self, vocabulary: int, tokens: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.randn(tokens, width))
        self.norm = nn.LayerNorm(width)
        self.layers = nn.Sequential(
            *(EncoderLayer(width, heads, norm_first=False) for _ in range(depth))
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.layers(self.norm(self.words(tokens) + self.positions))
        return states


def encoder(*, number: int) -> Drawn:
    """Draw an encoder of text: Devlin et al. 2019."""
    draw = Random(f"encoder {number}")
    heads = draw.choice((2, 4))
    width = heads * draw.choice((16, 24, 32, 48, 64))
    tokens, vocabulary = draw.choice((16, 32, 48, 64, 96)), draw.choice((1000, 5000, 20000))
    network = init_linear(_Encoder(vocabulary, tokens, width, draw.choice((1, 2, 3, 4)), heads))
    return network, (torch.randint(0, vocabulary, (draw.choice((1, 1, 2)), tokens)),)


class _VisionTransformer(nn.Module):
    def __init__(self, patches: int, patch: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.patches = Patches(width, patch)
        self.positions = nn.Parameter(torch.randn(1, patches, width) * 0.5)
        self.layers = nn.Sequential(
            *(EncoderLayer(width, heads, norm_first=True) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states = self.norm(self.layers(self.patches(x) + self.positions))
        logits: torch.Tensor = self.linear(states.mean(dim=1))
        return logits


def vision_transformer(*, number: int) -> Drawn:
    """Draw a ViT: Dosovitskiy et al. 2021, with the mean in place of a class token."""
    draw = Random(f"vision_transformer {number}")
    heads = draw.choice((2, 3, 4))
    width, patch = heads * draw.choice((16, 32, 48)), draw.choice((4, 8, 16))
    side = patch * draw.choice((4, 6, 8, 10))
    depth = draw.choice((1, 2, 3, 4, 6))
    network = init_linear(_VisionTransformer((side // patch) ** 2, patch, width, depth, heads))
    return network, (torch.randn(1, 3, side, side),)


class _Mixer(nn.Module):
    def __init__(self, patches: int, patch: int, width: int, depth: int, ratio: int) -> None:
        super().__init__()
        self.patches = Patches(width, patch)
        sizes = {"tokens": patches, "width": width}
        hidden = {"token_hidden": ratio * patches, "channel_hidden": ratio * width}
        self.layers = nn.Sequential(*(MixerLayer(**sizes, **hidden) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.linear(self.norm(self.layers(self.patches(x))).mean(dim=1))
        return logits


def mixer(*, number: int) -> Drawn:
    """Draw an MLP-Mixer: Tolstikhin et al. 2021."""
    draw = Random(f"mixer {number}")
    width, patch = draw.choice((64, 96, 128, 192, 256)), draw.choice((4, 8, 16))
    side = patch * draw.choice((4, 6, 8))
    depth, ratio = draw.choice((1, 2, 3, 4)), draw.choice((2, 4))
    network = init_linear(_Mixer((side // patch) ** 2, patch, width, depth, ratio))
    return network, (torch.randn(1, 3, side, side),)
