"""Measurements of one program on one device that cannot both be right."""

import math
from collections.abc import Iterator, Mapping

from costmodels.dataset.folder import Problem, StoredDataset
from costmodels.dataset.kernel_rows import RecordRow
from costmodels.kernel import CONTRADICTION, Measured


def contradictions(
    dataset: StoredDataset, known: Mapping[tuple[str, int], RecordRow]
) -> list[Problem]:
    """Find records that another measurement of the same program contradicts.

    Parameters
    ----------
    dataset : StoredDataset
        Its records are compared with `known`, and those of its own files that were left out
        because the program is there already with the ones that are kept.
    known : mapping
        (task, program) -> record of the data set that they are to be merged into.

    Returns
    -------
    list of Problem
        One for each pair whose medians differ by more than `CONTRADICTION`; the row that would be
        left out is named.
    """
    pairs = [
        (record, known[record.identity]) for record in dataset.records if record.identity in known
    ]
    kept = {record.identity: record for record in dataset.records}
    pairs += [(record, kept[record.identity]) for record in dataset.repeated]
    return list(_contradicting(dataset, pairs))


def _contradicting(
    dataset: StoredDataset, pairs: list[tuple[RecordRow, RecordRow]]
) -> Iterator[Problem]:
    for record, other in pairs:
        one, two = record.measurement, other.measurement
        if not isinstance(one, Measured) or not isinstance(two, Measured):
            continue
        factor = math.exp(abs(math.log(one.latency_s / two.latency_s)))
        if factor > CONTRADICTION:
            yield dataset.problem(
                record,
                f"program {record.program:016x} of task {record.task} must have one latency, got "
                f"{one.latency_s:.3g} s and {two.latency_s:.3g} s, a factor of {factor:.1f}: "
                "measured on other machines or threads? Keep such data sets apart",
            )
