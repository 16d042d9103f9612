"""PALEO's published example: Network-in-Network on a cluster of GPUs, against the authors' figures.

The set-up is that of `scripts/exp_case_firecaffe.sh` in github.com/TalwalkarLab/paleo (984bbf5):
K20X GPUs at 21 % of peak, joined at 70 Gbit/s of which 56 % are reached; times and speed-ups are
what that code prints, those of a network of convolutions by matrix products.
"""

from dataclasses import replace

import pytest
from one_kernel import convolution, matmul

from costmodels.errors import InputError
from costmodels.features.kernel_graph import KernelGraph, Operator
from costmodels.kernel_models.paleo import Platform
from costmodels.network_models.paleo_training import (
    EXCHANGES,
    Layer,
    Link,
    data_parallel_step,
)
from costmodels.testing.example_data import example_device

K20X = replace(
    example_device(),
    kind="gpu",
    clock_hz=1e9,
    peak_flop_per_s=3.935e12,
    bandwidth_byte_per_s=250 * 2**30,
)
INFINIBAND = Link(70e9 / 8, share=0.56)
REACHED = Platform(compute_share=0.21, memory_share=0.21)


def pooling(images: int, channels: int, image: int, window: int, stride: int) -> KernelGraph:
    side = (image - window) // stride + 1
    shape = (images, channels, side, side)
    data = Operator("parameter", "float32", (images, channels, image, image))
    pool = Operator("pool_max", "float32", shape, shape, (window, window), operations={"max": 1})
    return KernelGraph((data, pool), ((0, 1),))


def network_in_network(images: int) -> list[Layer]:
    """Lin et al., "Network in Network", ICLR 2014, for images of 224 pixels."""
    stages = [(3, 96, 224, 11, 4, 0), (96, 256, 26, 5, 1, 2), (256, 384, 12, 3, 1, 1)]
    stages.append((384, 1024, 5, 3, 1, 1))
    layers = []
    for inputs, outputs, image, window, stride, padding in stages:
        graph = convolution(images, inputs, outputs, image, window, stride=stride, padding=padding)
        side = graph.operators[-1].shape[-1]
        layers.append(Layer(graph, is_first=not layers))
        last = 1000 if outputs == 1024 else outputs
        layers.append(Layer(convolution(images, outputs, outputs, side, 1)))
        layers.append(Layer(convolution(images, outputs, last, side, 1)))
        if outputs != 1024:
            layers.append(Layer(pooling(images, outputs, side, 3, 2)))
    return layers


def step(batch: int, workers: int, exchange: str = "tree_all_reduce"):
    return data_parallel_step(
        network_in_network, batch, workers, K20X, INFINIBAND, platform=REACHED, exchange=exchange
    )


def test_a_step_takes_what_the_authors_code_says():
    found = step(256, 1)
    assert found.forward_s == pytest.approx(0.668, rel=0.03)
    assert found.backward_s == pytest.approx(1.253, rel=0.03)
    assert found.exchange_s == 0.0
    assert step(256, 32).total_s == pytest.approx(61.95e-3 + 62.0e-3, rel=0.03)


@pytest.mark.parametrize(
    ("exchange", "seconds"),
    [
        ("one_to_all", 0.3844),
        ("tree_all_reduce", 0.0620),
        ("butterfly_all_reduce", 0.0310),
        ("butterfly_mixing", 0.0062),
    ],
)
def test_each_exchange_takes_what_the_authors_code_says(exchange, seconds):
    assert step(256, 32, exchange).exchange_s == pytest.approx(seconds, rel=0.01)


@pytest.mark.parametrize(
    ("batch", "workers", "speedup"), [(256, 32, 15.5), (1024, 32, 25.3), (1024, 128, 51.6)]
)
def test_the_speedups_of_the_published_example(batch, workers, speedup):
    """FireCaffe itself (Iandola et al., CVPR 2016) reports 39 for 128 workers."""
    alone = step(256, 1).total_s * batch / 256
    assert alone / step(batch, workers).total_s == pytest.approx(speedup, rel=0.03)


def test_one_worker_exchanges_nothing():
    for name in EXCHANGES:
        assert step(256, 1, name).exchange_s == 0.0


def test_gradients_cost_as_much_as_the_layer_for_data_and_for_weights():
    layer = Layer(matmul(64, 32, 128))
    data, weights = layer.backward_costs()
    assert data.flop == weights.flop == 2 * 64 * 32 * 128
    assert weights.written_bytes == layer.weight_bytes == 4 * 128 * 32
    assert data.written_bytes == 4 * 64 * 128
    assert Layer(matmul(64, 32, 128), is_first=True).backward_costs() == (weights,)


def test_bad_input_is_named():
    with pytest.raises(InputError, match="workers and batch must be at least 1, got 0 and 8"):
        step(8, 0)
    with pytest.raises(InputError, match="exchange must be one of one_to_all"):
        step(8, 2, "gossip")
