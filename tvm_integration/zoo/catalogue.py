"""The zoo: real networks that need no download, as `zoo:NAME[,option=value...]`.

This module is the catalogue. The networks are written in plain torch in `vision`,
`transformers` and `families`, which are imported when a network is built: listing names and
checking options needs no torch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

from costmodels.errors import InputError

if TYPE_CHECKING:
    import torch

__all__ = ["ZooEntry", "build", "check_options", "zoo_entry", "zoo_families", "zoo_names"]


@dataclass(frozen=True)
class ZooEntry:
    """One network of the zoo.

    Attributes
    ----------
    name : str
        The name in `zoo:NAME`.
    paper : str
        Where the architecture is defined.
    module : str
        The module of this package that holds it; it has a function called `name`, which takes
        `defaults` as keywords and returns the network and its example inputs.
    defaults : Mapping[str, int]
        The options and their default values. Those of a family have ``number``: another number is
        another network.
    multiples : Mapping[str, int]
        Options that must be a multiple of a number (a patch size, say).
    """

    name: str
    paper: str
    module: str
    defaults: Mapping[str, int]
    multiples: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "defaults", MappingProxyType(dict(self.defaults)))
        object.__setattr__(self, "multiples", MappingProxyType(dict(self.multiples)))


_IMAGE = {"batch": 1, "image": 224, "classes": 1000}

_ENTRIES = {
    entry.name: entry
    for entry in (
        ZooEntry(
            "bert_tiny",
            "Devlin et al. 2019; the size L=2 H=128 is of Turc et al. 2019",
            "transformers",
            {"batch": 1, "sequence": 128},
        ),
        ZooEntry(
            "mixer_s32",
            "Tolstikhin et al. 2021, MLP-Mixer S/32",
            "transformers",
            _IMAGE,
            {"image": 32},
        ),
        ZooEntry("mlp", "Hinton et al. 2012, the MNIST network", "vision", {"batch": 1}),
        # Five halvings: below 32 nothing is left of the image.
        ZooEntry("mobilenet_v2", "Sandler et al. 2018", "vision", _IMAGE, {"image": 32}),
        ZooEntry("resnet18", "He et al. 2016", "vision", _IMAGE, {"image": 32}),
        ZooEntry("resnet50", "He et al. 2016", "vision", _IMAGE, {"image": 32}),
        ZooEntry(
            "vit_tiny",
            "Dosovitskiy et al. 2021; the size is DeiT-Ti of Touvron et al. 2021",
            "transformers",
            _IMAGE,
            {"image": 16},
        ),
    )
}


_FAMILIES = {
    name: ZooEntry(name, paper, "families", {"number": 1})
    for name, paper in {
        "dense": "Huang et al. 2017, DenseNet",
        "encoder": "Devlin et al. 2019, BERT",
        "fire": "Iandola et al. 2016, SqueezeNet",
        "inception": "Szegedy et al. 2015, Inception",
        "mixer": "Tolstikhin et al. 2021, MLP-Mixer",
        "nasbench201": "Dong and Yang 2020, NAS-Bench-201",
        "once_for_all": "Cai et al. 2020, Once-for-All; the space of MobileNetV3",
        "plain": "Simonyan and Zisserman 2015, VGG",
        "residual": "He et al. 2016, ResNet",
        "shuffle": "Zhang et al. 2018, ShuffleNet",
        "unet": "Ronneberger et al. 2015, U-Net",
        "vision_transformer": "Dosovitskiy et al. 2021, ViT",
    }.items()
}
"""Name -> entry of families: `zoo:NAME,number=N` is one network of the family, drawn by N."""


def zoo_families() -> tuple[str, ...]:
    """Return the names of the families, of which `number` draws a network, sorted."""
    return tuple(sorted(_FAMILIES))


def zoo_names() -> tuple[str, ...]:
    """Return the names of the single networks, sorted.

    Examples
    --------
    >>> zoo_names()[:3]
    ('bert_tiny', 'mixer_s32', 'mlp')
    """
    return tuple(sorted(_ENTRIES))


def zoo_entry(name: str) -> ZooEntry:
    """Return the entry called `name`.

    Raises
    ------
    InputError
        There is none; the message lists the names and the nearest one.
    """
    everything = _ENTRIES | _FAMILIES
    if name in everything:
        return everything[name]
    near = get_close_matches(name, everything, n=1)
    hint = f": did you mean zoo:{near[0]}?" if near else ""
    raise InputError(
        f"zoo network must be one of {', '.join(zoo_names())}, or of a family with a number "
        f"({', '.join(zoo_families())}), got {name!r}{hint}"
    )


def check_options(name: str, options: Mapping[str, int]) -> dict[str, int]:
    """Return the options of network `name` with its defaults filled in.

    Raises
    ------
    InputError
        An option the network does not have, a number below 1, an image size that the network
        cannot divide.
    """
    entry = zoo_entry(name)
    for key, value in options.items():
        if key not in entry.defaults:
            raise InputError(
                f"option of zoo:{name} must be one of {', '.join(entry.defaults)}, got {key!r}: "
                f"write zoo:{name},{next(iter(entry.defaults))}=NUMBER"
            )
        multiple = entry.multiples.get(key, 1)
        if value < 1 or value % multiple:
            must = "at least 1" if multiple == 1 else f"a multiple of {multiple}"
            raise InputError(
                f"{key} of zoo:{name} must be {must}, got {value}: "
                f"the default is {entry.defaults[key]}"
            )
    return {**entry.defaults, **options}


def build(
    name: str, *, seed: int = 0, **options: int
) -> tuple["torch.nn.Module", tuple["torch.Tensor", ...]]:
    """Build a network of the zoo with random weights.

    Parameters
    ----------
    name : str
        One of `zoo_names()` or `zoo_families()`.
    seed : int
        Weights and example inputs are a function of it; torch's global state is left alone.
    **options : int
        `batch`, `image` (side in pixels), `sequence` (tokens), `classes` or `number`; see
        `zoo_entry(name).defaults`. Weights do not depend on `batch`, `image` of a convolutional
        network, or `sequence`.

    Returns
    -------
    torch.nn.Module
        The network in evaluation mode.
    tuple of torch.Tensor
        Example inputs: images `[batch, 3, image, image]`, token numbers `[batch, sequence]` or
        flat pictures `[batch, 784]`.

    Raises
    ------
    InputError
        Unknown name or option.

    Examples
    --------
    >>> network, (picture,) = build("mlp", batch=2)
    >>> network(picture).shape
    torch.Size([2, 10])
    """
    import torch

    filled = check_options(name, options)
    factory: Callable[..., tuple[torch.nn.Module, tuple[torch.Tensor, ...]]] = getattr(
        import_module(f"tvm_integration.zoo.{zoo_entry(name).module}"), name
    )
    # fork_rng puts the generator of the user's process back as it was.
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        network, inputs = factory(**filled)
    return network.eval().requires_grad_(False), inputs
