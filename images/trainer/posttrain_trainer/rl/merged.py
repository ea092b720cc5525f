"""LoRA while a model answers: added to the weights, each token costs less than beside them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import Linear


@contextmanager
def merged(model: Any) -> Iterator[None]:
    """The model with its LoRA in the weights where those are float32: others would be rounded, and answer otherwise
    than they are trained. Afterwards they are the very weights they were. A second copy of them is in memory."""
    layers = [layer for layer in model.modules() if isinstance(layer, Linear) and _can_hold(layer)]
    before = [layer.get_base_layer().weight.data for layer in layers]
    try:
        for layer, weight in zip(layers, before, strict=True):
            _merge(layer, weight)
        yield
    finally:
        for layer, weight in zip(layers, before, strict=True):
            layer.get_base_layer().weight.data = weight
            layer.merged_adapters.clear()


def _can_hold(layer: Linear) -> bool:
    """DoRA is more than a sum."""
    return layer.get_base_layer().weight.dtype == torch.float32 and not layer.lora_variant and not layer.merged


@torch.no_grad()
def _merge(layer: Linear, weight: torch.Tensor) -> None:
    for adapter in layer.active_adapters:
        weight = weight + layer.get_delta_weight(adapter)
        layer.merged_adapters.append(adapter)
    layer.get_base_layer().weight.data = weight
