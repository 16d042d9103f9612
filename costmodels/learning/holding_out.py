"""Tasks to stop and to calibrate by, where a fit is given none."""

import numpy as np

from costmodels.kernel import KernelDataset

MIN_TASKS = 8
"""From which on some are held out."""
SHARE = 0.125
"""Of the tasks."""


def hold_out(
    dataset: KernelDataset, rng: np.random.Generator
) -> tuple[KernelDataset, KernelDataset | None]:
    """Divide a data set into tasks to learn from and tasks to judge by.

    Parameters
    ----------
    dataset : KernelDataset
        To divide.
    rng : numpy.random.Generator
        Draws the tasks.

    Returns
    -------
    tuple
        To learn from, and to judge by: None when the tasks are too few.
    """
    tasks = len(dataset.batch.tasks)
    if tasks < MIN_TASKS:
        return dataset, None
    chosen = rng.choice(tasks, max(1, round(tasks * SHARE)), replace=False)
    judging = np.isin(dataset.batch.task_index, chosen)
    if not (np.any(dataset.measured[judging]) and np.any(dataset.measured[~judging])):
        return dataset, None
    return dataset.take(np.flatnonzero(~judging)), dataset.take(np.flatnonzero(judging))
