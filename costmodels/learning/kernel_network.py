"""What every network of kernels is, so that one training loop and one model can hold it."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from costmodels.learning.kernel_tensors import KernelEncoding, KernelTensors


class KernelNetwork(nn.Module, ABC):
    """Tensors of kernels -> what is predicted of them."""

    @abstractmethod
    def standardise(self, kernels: KernelEncoding) -> None:
        """Learn how inputs are distributed, from the kernels that it will be trained on."""

    @abstractmethod
    def forward(self, kernels: KernelTensors) -> Tensor:
        """Predict.

        Parameters
        ----------
        kernels : KernelTensors
            Some kernels.

        Returns
        -------
        Tensor
            float32 [kernels, 2]: utility in units of log speed, and log seconds above the roofline.
        """
