"""Batch-normalization statistics for networks with random weights. Imports torch.

A network that was never trained has running means of 0 and variances of 1, which normalize
nothing: over dozens of layers the activations die out or blow up, and the outputs no longer
depend on the input. Comparing them would then prove nothing.
"""

import torch
from torch import nn

__all__ = ["calibrate_batch_norm"]


def calibrate_batch_norm(network: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    """Set the running statistics of every batch normalization to those of one batch.

    Parameters
    ----------
    network : nn.Module
        Changed in place; comes back in evaluation mode.
    inputs : tuple of torch.Tensor
        One batch, of more than one sample.
    """
    network.eval()
    layers = [x for x in network.modules() if isinstance(x, nn.modules.batchnorm._BatchNorm)]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = None  # a cumulative mean: exactly this batch's statistics
        layer.train()
    with torch.no_grad():
        network(*inputs)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    network.eval()
