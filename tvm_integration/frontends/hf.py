"""Networks of `transformers` from their configuration class alone: no downloads. Imports torch."""

import ast
import inspect
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from costmodels.errors import InputError
from tvm_integration.foreign_errors import one_line
from tvm_integration.zoo.batch_norm import calibrate_batch_norm

if TYPE_CHECKING:
    import torch

__all__ = ["build_hf"]

# Options that size the example inputs; every other option is a field of the configuration.
_INPUT_SIZES = {"batch": 1, "sequence": 128, "image": 224, "samples": 16000}
_PROBE_BATCH = 4
_COUNTS = re.compile(r"^(num|n)_|layers?$|heads?$|(size|dim|width|depth|channel)s?$")
"""Fields that transformers lets be negative, which makes a network without layers."""


def build_hf(
    config_name: str, options: Mapping[str, str], *, seed: int
) -> tuple["torch.nn.Module", dict[str, "torch.Tensor"]]:
    """Build a network with random weights, and its example inputs.

    Parameters
    ----------
    config_name : str
        A configuration class of `transformers`: `ResNetConfig`, `BertConfig`, …
    options : Mapping[str, str]
        Fields of the configuration (numbers, booleans and lists as Python writes them, or text),
        and the sizes of the inputs: `batch`, `sequence` (tokens), `image` (side in pixels,
        where the configuration has none) and `samples` (of sound).
    seed : int
        Weights and inputs are a function of it; torch's global state is left alone.

    Returns
    -------
    torch.nn.Module
        The base network (without a head), in evaluation mode.
    dict
        Its inputs by keyword.

    Raises
    ------
    InputError
        No such class, field or value; a network whose inputs are not images, tokens or sound.
    """
    import torch

    fields = {k: _literal(v) for k, v in options.items() if k not in _INPUT_SIZES}
    sizes = {**_INPUT_SIZES, **_sizes(config_name, options)}
    config = _config(config_name, fields)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        network = _network(config_name, config)
        inputs = _inputs(network, config, sizes)
        if "pixel_values" in inputs:
            probe = torch.randn(_PROBE_BATCH, *inputs["pixel_values"].shape[1:])
            calibrate_batch_norm(network, (probe,))
    return network.eval().requires_grad_(False), inputs


def _literal(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False}.get(text.lower(), text)


def _sizes(config_name: str, options: Mapping[str, str]) -> dict[str, int]:
    sizes = {}
    for key in _INPUT_SIZES.keys() & options.keys():
        value = _literal(options[key])
        if not isinstance(value, int) or value < 1:
            raise InputError(
                f"{key} of hf:{config_name} must be a whole number of at least 1, "
                f"got {options[key]!r}: the default is {_INPUT_SIZES[key]}"
            )
        sizes[key] = value
    return sizes


def _config(config_name: str, fields: dict[str, object]) -> Any:
    import transformers

    config_class: Any = getattr(transformers, config_name, None)
    base = transformers.PretrainedConfig
    is_config = isinstance(config_class, type) and issubclass(config_class, base)
    if not is_config:
        known = [name for name in dir(transformers) if name.endswith("Config")]
        near = get_close_matches(config_name, known, n=1)
        hint = f"did you mean hf:{near[0]}?" if near else "write hf:BertConfig, for example"
        raise InputError(
            f"hf: must be followed by a configuration class of transformers "
            f"{transformers.__version__}, got {config_name!r}: {hint}"
        )
    default = config_class()
    for key in fields:
        # transformers takes any keyword in silence, a misspelt one too.
        if not hasattr(default, key):
            near = get_close_matches(key, [*vars(default), *_INPUT_SIZES], n=1)
            hint = f"did you mean {near[0]}?" if near else "see the class's documentation"
            raise InputError(
                f"option of hf:{config_name} must be a field of it or one of "
                f"{', '.join(_INPUT_SIZES)}, got {key!r}: {hint}"
            )
    for key, value in fields.items():
        numbers = value if isinstance(value, list | tuple) else [value]
        if _COUNTS.search(key) and any(isinstance(n, int) and n < 0 for n in numbers):
            raise InputError(
                f"{key} of hf:{config_name} must be at least 0, got {value}: it counts something"
            )
    try:
        config = config_class(**fields)
    except Exception as error:  # each class checks its fields in its own way
        raise InputError(
            f"hf:{config_name} must accept its options, got {one_line(error)}: change the values"
        ) from error
    config.use_cache = False  # a cache is no tensor output
    return config


def _network(config_name: str, config: Any) -> "torch.nn.Module":
    import transformers

    auto_model: Any = transformers.AutoModel
    try:
        network: torch.nn.Module = auto_model.from_config(config)
    except Exception as error:  # wrong sizes surface here, in whatever layer notices them
        raise InputError(
            f"transformers must be able to build hf:{config_name}, got {one_line(error)}: "
            "change its options"
        ) from error
    return network


def _inputs(
    network: "torch.nn.Module", config: Any, sizes: Mapping[str, int]
) -> dict[str, "torch.Tensor"]:
    import torch

    batch, kind = sizes["batch"], str(network.main_input_name)
    encoder_decoder = getattr(config, "is_encoder_decoder", False)
    if kind == "pixel_values" and not encoder_decoder:
        side = getattr(config, "image_size", None) or sizes["image"]
        height, width = side if isinstance(side, list | tuple) else (side, side)
        channels = getattr(config, "num_channels", 3)  # some call it otherwise: red, green, blue
        return {kind: torch.randn(batch, channels, height, width)}
    if kind == "input_values" and not encoder_decoder:
        return {kind: torch.randn(batch, sizes["samples"])}
    if kind == "input_ids" and hasattr(config, "vocab_size"):
        longest = getattr(config, "max_position_embeddings", None) or sizes["sequence"]
        shape = (batch, min(sizes["sequence"], longest))
        names = [kind, "decoder_input_ids"] if encoder_decoder else [kind]
        inputs = {name: torch.randint(0, config.vocab_size, shape) for name in names}
        if "attention_mask" in inspect.signature(network.forward).parameters:
            # Without one, decoders look for packed sequences with operators on booleans that TVM
            # 0.27 imports wrongly (cumsum) or cannot compile (equal).
            inputs["attention_mask"] = torch.ones(shape, dtype=torch.int64)
        return inputs
    raise InputError(
        f"hf: must name a network of images, tokens or sound, got {type(config).__name__} with "
        f"{kind}: write a function that returns the network and its inputs, and give "
        "module:function"
    )
