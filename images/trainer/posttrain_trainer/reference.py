"""The model that a preference method compares with: the one that is trained, as it is when training starts.

TRL would take a copy of the adapter, or the model without its adapter, or a second model. Ours are numbers: the log
probabilities of every completion, computed once before the first step.
"""

from typing import Any

import torch
from peft import OSFConfig, PeftModel


def trainable(model: Any) -> Any:
    """What a trainer of TRL that compares with a reference is given: OSF, which can hold no second adapter, is given
    without PEFT's outer layer."""
    is_single = isinstance(model, PeftModel) and isinstance(model.active_peft_config, OSFConfig)
    return model.get_base_model() if is_single else model


def without_copy(model: Any) -> None:
    """Remove the copy of the adapter that TRL makes for a reference."""
    if isinstance(model, PeftModel) and "ref" in model.peft_config:
        model.delete_adapter("ref")


def log_probabilities(training: Any, batch: dict[str, torch.Tensor], prefix: str = "") -> torch.Tensor:
    """Sum of the completions' log probabilities under the model as it is, by the forward pass that TRL trains with:
    shape [sequences], on the CPU."""
    ids, mask = (batch[prefix + name].to(training.args.device) for name in ("input_ids", "completion_mask"))
    attention = batch[prefix + "attention_mask"].to(training.args.device)
    labels = ids.masked_fill(mask == 0, -100)
    with torch.no_grad(), training.accelerator.autocast():
        output = training.model(input_ids=ids, attention_mask=attention, labels=labels, fused_lm_head=True)
    # Prompt tuning puts its virtual tokens in front.
    return output.log_probs[:, 1 - ids.shape[1] :].sum(1).float().cpu()
