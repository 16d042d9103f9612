"""What the tests of all kinds of MODEL share."""

import numpy as np
import pytest
from sampled_database import TARGET

from costmodels.errors import InputError
from tvm_integration.compat import relax, tvm
from tvm_integration.frontends.load import load_network

SMALL_NETWORK = "zoo:nasbench201,number=3"
"""With branches, and imported within seconds."""


def run_untuned(network) -> list[np.ndarray]:
    """Compile as TVM does by default and run: independent of our own pipeline."""
    executable = tvm.compile(network.module, target=TARGET)
    arguments = [tvm.runtime.tensor(x) for x in network.inputs]
    result = relax.VirtualMachine(executable, tvm.cpu())["main"](*arguments)
    results = [result] if isinstance(result, tvm.runtime.Tensor) else list(result)
    return [x.numpy() for x in results]


def assert_equals_reference(network) -> None:
    expected = network.reference.run(network.inputs)
    got = run_untuned(network)
    assert len(got) == len(expected)
    for ours, theirs in zip(got, expected, strict=True):
        assert theirs.std() > 0
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


def error_text(model: str, **options) -> str:
    with pytest.raises(InputError) as error:
        load_network(model, **options)
    text = str(error.value)
    assert "\n" not in text
    return text
