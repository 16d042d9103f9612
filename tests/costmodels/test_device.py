"""Devices: detected, written, read, limited; a file that makes no sense is refused."""

import numpy as np
import pytest

from costmodels.device import detect_host, read_device
from costmodels.errors import InputError
from costmodels.features.schema import DEVICE
from costmodels.testing.example_data import example_device


def test_the_host_makes_sense():
    host = detect_host()
    assert host.kind == "cpu"
    assert host.cores >= 1
    assert host.vector_bits in (128, 256, 512)
    assert 1e8 < host.clock_hz < 1e10
    assert 1e8 < host.bandwidth_byte_per_s < 1e13
    assert host.peak_flop_per_s >= host.cores * host.clock_hz


def test_a_device_file_round_trips(tmp_path):
    device = example_device('quotes " and \\')
    path = tmp_path / "device.toml"
    path.write_text(device.to_toml())
    assert read_device(path) == device


def test_features_have_the_schema():
    features = example_device().features()
    assert features.shape == (len(DEVICE.columns),)
    assert features[DEVICE.index["device.is_gpu"]] == 0
    assert features[DEVICE.index["device.cores"]] == pytest.approx(np.log2(3))


def test_limits_shrink_the_peak():
    device = example_device()
    limited = device.limited_to(cores=1, vector_bits=128)
    assert (limited.cores, limited.vector_bits) == (1, 128)
    assert limited.peak_flop_per_s == pytest.approx(device.peak_flop_per_s / 4)
    assert device.limited_to(cores=64, vector_bits=4096) == device


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("cores = 2", "cores = 0"), "device.cores must be a number of at least 1, got 0"),
        (("cores = 2", 'cores = "two"'), "device.cores must be a number of at least 1, got 'two'"),
        (("cores = 2", "cores = nan"), "device.cores must be a number"),
        (('kind = "cpu"', 'kind = "tpu"'), "device.kind must be 'cpu' or 'gpu', got 'tpu'"),
        (("cores = 2\n", ""), "must set cores: `costmodels device` prints a complete one"),
        (("cores = 2", "cores = 2\nspeed = 3"), "sets unknown keys: speed"),
        (("cores = 2", "cores = = 2"), "must be TOML"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(tmp_path, change, message):
    path = tmp_path / "device.toml"
    text = example_device().to_toml()
    assert change[0] in text
    path.write_text(text.replace(*change))
    with pytest.raises(InputError) as error:
        read_device(path)
    assert message in str(error.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_device(tmp_path / "none.toml")
