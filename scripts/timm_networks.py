"""Networks of timm with random weights, for `module:function`: `timm_networks:resnet18`.

timm is no dependency: install it with the torchvision of the installed torch.
"""

from collections.abc import Callable
from typing import Any

NAMES = (
    "coat_lite_tiny",
    "convit_tiny",
    "convnext_atto",
    "crossvit_tiny_240",
    "deit_tiny_patch16_224",
    "densenet121",
    "dla34",
    "edgenext_xx_small",
    "efficientformer_l1",
    "efficientnet_lite0",
    "fastvit_t8",
    "ghostnet_100",
    "gmlp_ti16_224",
    "hardcorenas_a",
    "hgnetv2_b0",
    "lcnet_050",
    "levit_128s",
    "mixer_s32_224",
    "mnasnet_small",
    "mobilenetv3_small_100",
    "mobilevit_xxs",
    "pit_ti_224",
    "poolformer_s12",
    "regnetx_002",
    "repvgg_a0",
    "resmlp_12_224",
    "resnet18",
    "rexnet_100",
    "tinynet_e",
    "xcit_nano_12_p16_224",
)
"""A small network of each of thirty families."""


def __getattr__(name: str) -> Callable[[], Any]:
    """A function that builds a network and its example inputs."""
    if name.startswith("_"):
        raise AttributeError(name)

    def build() -> Any:
        import timm
        import torch

        torch.manual_seed(0)
        network = timm.create_model(name, pretrained=False).eval()
        size = network.default_cfg["input_size"]
        return network, (torch.randn(1, *size),)

    return build
