"""vLLM's CPU worker, with adapters kept away from requests to the base. vLLM's --worker-cls names it.

On the CPU, vLLM 0.32 takes the index -1, which means "no adapter", as the last place of its stacked weights: in a batch
with other requests, the base answers with the weights of whichever adapter lies there (vllm#48421). The GPU's kernels
skip such tokens. A token without an adapter gets a zero input here, so that every adapter's share of it is zero.
"""

from typing import Any

import torch
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
from vllm.platforms import current_platform
from vllm.v1.worker.cpu_worker import CPUWorker

_NO_ADAPTER = -1


class BaseAwarePunica(PunicaWrapperCPU):
    """Adds adapters' shares to the outputs of layers, but not for tokens of the base."""

    def add_lora_embedding(self, y: torch.Tensor, x: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        """Add the share of an embedding's second half; x has shape [tokens, rank]."""
        super().add_lora_embedding(y, _without_base(x, self.token_lora_indices), *args, **kwargs)

    def add_lora_linear(self, y: torch.Tensor, x: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        """Add the share of a linear layer; x has shape [tokens, in]."""
        super().add_lora_linear(y, _without_base(x, self.token_lora_indices), *args, **kwargs)

    def add_lora_logits(self, y: torch.Tensor, x: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        """Add the share of the head; x has shape [requests, in]."""
        super().add_lora_logits(y, _without_base(x, self.sampler_indices), *args, **kwargs)


def _without_base(x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """x, of shape [..., features], with zeros in the rows whose index says that they have no adapter."""
    rows = x.view(-1, x.shape[-1])
    return rows.masked_fill((indices == _NO_ADAPTER).unsqueeze(1), 0).view_as(x)


class Worker(CPUWorker):
    """vLLM's CPU worker with that wrapper."""

    def load_model(self, *args: Any, **kwargs: Any) -> None:
        """Load the model; the wrapper is chosen while its layers are made."""
        current_platform.get_punica_wrapper = lambda: f"{__name__}.{BaseAwarePunica.__name__}"
        super().load_model(*args, **kwargs)
