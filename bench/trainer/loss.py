"""The held-out loss of an adapter, with nothing but transformers and peft."""

import json
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer


@torch.inference_mode()
def held_out(base: Path, adapter: Path, rows: Path) -> float:
    """Nats per token of the assistant's turns."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(adapter)).eval()
    total, count = 0.0, 0
    for line in rows.read_text().splitlines():
        given = tokenizer.apply_chat_template(
            json.loads(line)["messages"], return_dict=True, return_assistant_tokens_mask=True
        )
        ids, counts = torch.tensor([given["input_ids"]]), torch.tensor(given["assistant_masks"])[1:].bool()
        losses = torch.nn.functional.cross_entropy(model(input_ids=ids).logits[0, :-1], ids[0, 1:], reduction="none")
        total += float(losses[counts].sum())
        count += int(counts.sum())
    return total / count
