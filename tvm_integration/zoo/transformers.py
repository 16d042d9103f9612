"""Transformers and the Mixer of the zoo. Imports torch; see `zoo` for the names.

Weights are normal with a standard deviation of 1/sqrt(fan_in) rather than the papers' 0.02, which
suits training: with it every branch of an untrained network is drowned by its residual path, and
a wrong kernel there would hardly show in the output. Attention is written out in matrix products
and a softmax, so that each becomes a kernel of its own.
"""

import math

import torch
from torch import nn


def init_linear(network: nn.Module) -> nn.Module:
    """Draw weights, and vary the affine part of the normalization."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
            if layer.bias is not None:
                nn.init.normal_(layer.bias, std=0.1)
        elif isinstance(layer, nn.LayerNorm):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.1)
    return network


class _SelfAttention(nn.Module):
    """Multi-head self-attention of Vaswani et al. 2017; `[batch, tokens, width]` in and out."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        split = (batch, tokens, self.heads, width // self.heads)
        query = self.query(x).reshape(split).transpose(1, 2)
        key = self.key(x).reshape(split).transpose(1, 2)
        value = self.value(x).reshape(split).transpose(1, 2)
        scores = query @ key.transpose(2, 3) / math.sqrt(width // self.heads)
        mixed = torch.softmax(scores, dim=-1) @ value
        result: torch.Tensor = self.output(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return result


def _feed_forward(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class EncoderLayer(nn.Module):
    """A transformer layer, normalized before its branches (ViT) or after them (BERT)."""

    def __init__(self, width: int, heads: int, *, norm_first: bool) -> None:
        super().__init__()
        self.attention = _SelfAttention(width, heads)
        self.feed_forward = _feed_forward(width, 4 * width)
        eps = 1e-6 if norm_first else 1e-12  # as the papers' own code has them
        self.attention_norm = nn.LayerNorm(width, eps=eps)
        self.feed_forward_norm = nn.LayerNorm(width, eps=eps)
        self.norm_first = norm_first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens in, tokens out: `[batch, tokens, width]`."""
        if self.norm_first:
            x = x + self.attention(self.attention_norm(x))
            x = x + self.feed_forward(self.feed_forward_norm(x))
        else:
            x = self.attention_norm(x + self.attention(x))
            x = self.feed_forward_norm(x + self.feed_forward(x))
        return x


class _Bert(nn.Module):
    VOCABULARY = 30522
    POSITIONS = 512

    def __init__(self, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.words = nn.Embedding(self.VOCABULARY, width)
        self.positions = nn.Embedding(self.POSITIONS, width)
        self.segments = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.Sequential(
            *(EncoderLayer(width, heads, norm_first=False) for _ in range(depth))
        )
        self.pooler = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        positions = self.positions.weight[: tokens.shape[1]]
        x = self.norm(self.words(tokens) + positions + self.segments.weight[0])
        x = self.layers(x)
        return x, torch.tanh(self.pooler(x[:, 0]))


def bert_tiny(*, batch: int, sequence: int) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Build BERT with 2 layers of width 128 and 2 heads, for full sequences of one segment.

    Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers"; the size is the
    smallest of Turc et al. 2019. Outputs: the last hidden state and the pooled first token.
    """
    network = init_linear(_Bert(width=128, depth=2, heads=2))
    return network, (torch.randint(0, _Bert.VOCABULARY, (batch, sequence)),)


class Patches(nn.Module):
    """Cut an image into square patches and embed each: `[batch, patches, width]`."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, width, patch, stride=patch)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images in, tokens out."""
        patches: torch.Tensor = self.projection(x)
        return patches.flatten(2).transpose(1, 2)


class _ViT(nn.Module):
    def __init__(self, *, image: int, classes: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.patches = Patches(width, 16)
        self.class_token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, (image // 16) ** 2 + 1, width) * 0.5)
        self.layers = nn.Sequential(
            *(EncoderLayer(width, heads, norm_first=True) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x)
        x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        logits: torch.Tensor = self.classifier(self.norm(self.layers(x))[:, 0])
        return logits


def vit_tiny(*, batch: int, image: int, classes: int) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Build ViT with patches of 16 pixels, 12 layers of width 192 and 3 heads.

    Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words"; the size is DeiT-Ti of Touvron et
    al. 2021.
    """
    network = init_linear(_ViT(image=image, classes=classes, width=192, depth=12, heads=3))
    return network, (torch.randn(batch, 3, image, image),)


class MixerLayer(nn.Module):
    """Two perceptrons, one across patches and one across channels: Tolstikhin et al. 2021."""

    def __init__(self, *, tokens: int, width: int, token_hidden: int, channel_hidden: int) -> None:
        super().__init__()
        self.token_norm = nn.LayerNorm(width, eps=1e-6)
        self.mix_tokens = _feed_forward(tokens, token_hidden)
        self.channel_norm = nn.LayerNorm(width, eps=1e-6)
        self.mix_channels = _feed_forward(width, channel_hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens in, tokens out: `[batch, tokens, width]`."""
        x = x + self.mix_tokens(self.token_norm(x).transpose(1, 2)).transpose(1, 2)
        mixed: torch.Tensor = self.mix_channels(self.channel_norm(x))
        return x + mixed


class _Mixer(nn.Module):
    def __init__(self, *, image: int, classes: int) -> None:
        super().__init__()
        self.patches = Patches(512, 32)
        sizes = {"tokens": (image // 32) ** 2, "width": 512}
        self.layers = nn.Sequential(
            *(MixerLayer(**sizes, token_hidden=256, channel_hidden=2048) for _ in range(8))
        )
        self.norm = nn.LayerNorm(512, eps=1e-6)
        self.classifier = nn.Linear(512, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.layers(self.patches(x)))
        logits: torch.Tensor = self.classifier(x.mean(dim=1))
        return logits


def mixer_s32(
    *, batch: int, image: int, classes: int
) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Build MLP-Mixer S/32: Tolstikhin et al. 2021, "An all-MLP Architecture", table 1."""
    network = init_linear(_Mixer(image=image, classes=classes))
    return network, (torch.randn(batch, 3, image, image),)
