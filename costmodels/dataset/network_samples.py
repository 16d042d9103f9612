"""Networks of a data set as network models learn from them."""

import logging

from costmodels.checks import require_type
from costmodels.dataset.featurized import FeaturizedRecords
from costmodels.dataset.folder import StoredDataset
from costmodels.kernel import Measured
from costmodels.networks.kernel_latency import measured_latency
from costmodels.networks.sample import LaunchedKernels, NetworkDataset, NetworkSample

__all__ = ["network_dataset"]

_log = logging.getLogger(__name__)


def network_dataset(stored: StoredDataset, features: FeaturizedRecords) -> NetworkDataset:
    """Put networks and the programs that they were built with together.

    Parameters
    ----------
    stored : StoredDataset
        With a table of networks.
    features : FeaturizedRecords
        Of its records.

    Returns
    -------
    NetworkDataset
        Kernels go by the key of their task. A network whose programs are not all in the data set is
        left out, and told how many there are of these.
    """
    require_type("stored", stored, StoredDataset)
    require_type("features", features, FeaturizedRecords)
    place = {record.identity: number for number, record in enumerate(features.records)}
    networks, measurements, left_out = [], [], 0
    for row in stored.networks:
        programs = [(kernel.task, kernel.program) for kernel in row.kernels]
        known = {
            task: place[task, program] for task, program in programs if (task, program) in place
        }
        if known.keys() < row.tasks or not known:
            left_out += 1
            continue
        alone = {kernel.task: measured_latency(Measured(kernel.run_s)) for kernel in row.kernels}
        kernels = LaunchedKernels(
            row.graph,
            tuple(known),
            features.kernels.batch.take(list(known.values())),
            {name: latency for name, latency in alone.items() if name in known},
        )
        networks.append(NetworkSample(row.network, row.device, kernels=kernels))
        measurements.append(Measured(row.run_s))
    if left_out:
        _log.warning(
            "%s: %d of %d networks are left out: not every program of theirs is in the data set",
            stored.path,
            left_out,
            len(stored.networks),
        )
    return NetworkDataset(tuple(networks), tuple(measurements))
