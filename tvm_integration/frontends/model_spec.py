"""The `MODEL` argument: what may be written, and the checks that need neither TVM nor torch."""

import re
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from costmodels.errors import InputError
from costmodels.installed import require_package
from tvm_integration import zoo

__all__ = [
    "ModelName",
    "add_working_directory",
    "check_library_name",
    "check_model_name",
    "default_work_dir",
]

FORMS = "zoo:NAME, hf:ConfigName, FILE.onnx, FILE.pt2 or module:function"
_COMMA = re.compile(r",(?![^\[(]*[\])])")  # none inside a list: hidden_sizes=[8,16]
_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


@dataclass(frozen=True)
class ModelName:
    """A parsed `MODEL`.

    Attributes
    ----------
    kind : str
        `zoo`, `hf`, `onnx`, `pt2` or `function`.
    name : str
        The network's name in the zoo, the configuration class, the path or `module:function`.
    options : Mapping[str, str]
        What follows the name as `,key=value`.
    """

    kind: str
    name: str
    options: Mapping[str, str]

    def integer_options(self) -> dict[str, int]:
        """Return the options as numbers.

        Raises
        ------
        InputError
            A value is not a whole number.
        """
        numbers = {}
        for key, value in self.options.items():
            try:
                numbers[key] = int(value)
            except ValueError:
                raise InputError(
                    f"{key} of {self.name} must be a whole number, got {value!r}: "
                    f"write {key}=1, for example"
                ) from None
        return numbers


def check_model_name(model: str) -> ModelName:
    """Parse `MODEL` and check what can be checked at once.

    Parameters
    ----------
    model : str
        `zoo:NAME[,option=number...]`, `hf:ConfigName[,key=value...]`, a path ending in `.onnx`
        (and the values of its symbolic dimensions as `,name=number`), a path ending in `.pt2`, or
        `module:function`.

    Returns
    -------
    ModelName
        The parts.

    Raises
    ------
    InputError
        None of these forms; an unknown network or option of the zoo; a missing, empty or
        damaged file; a module or package that is not installed.

    Examples
    --------
    >>> check_model_name("zoo:resnet18,batch=8").options["batch"]
    '8'
    """
    head, _, rest = model.partition(",")
    if ".onnx," in model:  # its path may have commas
        place = model.index(".onnx,") + len(".onnx")
        head, rest = model[:place], model[place + 1 :]
    if model.startswith("zoo:"):
        name = ModelName("zoo", head.removeprefix("zoo:"), _options(model, rest))
        zoo.check_options(name.name, name.integer_options())
        return name
    if model.startswith("hf:"):
        return _check_hf(head.removeprefix("hf:"), _options(model, rest))
    for kind in ("onnx", "pt2"):
        if model.endswith(f".{kind}"):
            return _check_file(ModelName(kind, model, MappingProxyType({})))
    if head.endswith(".onnx"):
        return _check_file(ModelName("onnx", head, _options(model, rest)))
    if _FUNCTION.fullmatch(model):
        return _check_function(model)
    near = get_close_matches(head, zoo.zoo_names(), n=1)
    hint = f"did you mean zoo:{near[0]}?" if near else f"the zoo has {', '.join(zoo.zoo_names())}"
    raise InputError(f"MODEL must be {FORMS}, got {model!r}: {hint}")


def default_work_dir(model: str, target: str) -> Path:
    """Where `costmodels tune` keeps what it measures of a network, and `estimate` looks for it.

    Parameters
    ----------
    model, target : str
        As the user writes them.
    """
    name = model if target == "host" else f"{model} {target}"
    return Path("costmodels_work") / re.sub(r"[^\w.=-]+", "_", name).strip("_")


def check_library_name(name: ModelName, out: Path) -> None:
    """Refuse a library that Python would import in the place of the user's module.

    Raises
    ------
    InputError
        When it has the module's name and lies in the working directory.
    """
    module = name.name.partition(":")[0]
    if name.kind == "function" and out.stem == module and out.parent.resolve() == Path.cwd():
        raise InputError(
            f"library must not be called as the module is, got {out.name} for {name.name}: Python "
            f"would import it in the place of {module}.py; take another name or folder"
        )


def add_working_directory() -> None:
    """Let `module:function` find modules in the working directory, as `python -m` does.

    The entry stays: a network may import more of its own modules when it runs.
    """
    here = str(Path.cwd())
    if "" not in sys.path and here not in sys.path:
        sys.path.insert(0, here)


def _options(model: str, text: str) -> Mapping[str, str]:
    options: dict[str, str] = {}
    for part in _COMMA.split(text) if text else ():
        key, equals, value = part.partition("=")
        if not (key and equals and value):
            raise InputError(
                f"an option of MODEL must be key=value, got {part!r}: "
                f"write {model.partition(',')[0]},key=value"
            )
        if key in options:
            raise InputError(f"option {key} of MODEL must be given once, got it twice in {model!r}")
        options[key] = value
    return MappingProxyType(options)


def _check_file(name: ModelName) -> ModelName:
    path = Path(name.name)
    if path.is_dir():
        raise InputError(
            f"MODEL must be a file, got the directory {name.name!r}: name a file in it"
        )
    if not path.is_file():
        raise InputError(
            f"MODEL must be an existing file, got {name.name!r}: "
            f"check the path, the working directory is {Path.cwd()}"
        )
    if path.stat().st_size == 0:
        raise InputError(f"{name.name} must hold a network, got an empty file: write it again")
    if name.kind == "pt2" and not zipfile.is_zipfile(path):
        raise InputError(
            f"{name.name} must be an archive of torch.export.save, got a truncated or other file: "
            "save it again"
        )
    if name.kind == "onnx":
        for package in ("onnx", "onnxscript"):
            require_package(package, "onnx", f"MODEL {name.name}")
    name.integer_options()
    return name


def _check_hf(config: str, options: Mapping[str, str]) -> ModelName:
    if not config.isidentifier():
        raise InputError(
            f"hf: must be followed by a configuration class of transformers, got {config!r}: "
            "write hf:BertConfig, for example"
        )
    require_package("transformers", "hf", f"hf:{config}")
    return ModelName("hf", config, options)


def _check_function(model: str) -> ModelName:
    add_working_directory()
    # Only the outermost package: looking further would import it.
    package = model.partition(":")[0].partition(".")[0]
    try:
        found = find_spec(package) is not None
    except ValueError:  # a module without a spec, __main__ for one, is there
        found = True
    if not found:
        hint = "run in its directory or put it on PYTHONPATH"
        if near := get_close_matches(package, ("zoo", "hf"), n=1):
            hint = f"did you mean {near[0]}:{model.partition(':')[2]}?"
        raise InputError(
            f"module of MODEL must be importable, got {model!r} and no module {package!r}: {hint}"
        )
    return ModelName("function", model, MappingProxyType({}))
