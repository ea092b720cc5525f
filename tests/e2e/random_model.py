"""A base of random weights and adapters for it, with manifests like the trainer's: made in seconds, never good."""

import json
import string
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, Qwen2ForSequenceClassification

from posttrain_api import artifact
from posttrain_api.artifact import BaseReference, Manifest, Probe
from posttrain_api.server_contract import DesiredAdapter

TEMPLATE = "{% for message in messages %}<s>{{ message['content'] }}</s>{% endfor %}<s>"
_PROBES = ("<s>What is 1+1?</s><s>2</s>", "<s>hello there</s><s>ok</s>", "<s>zzz 42</s><s>42</s>")


def save_base(folder: Path) -> None:
    """Write a float32 Qwen2 of 100,000 random parameters that reads and writes single characters."""
    vocabulary = {character: index for index, character in enumerate(string.printable)}
    vocabulary |= {"<s>": len(vocabulary), "</s>": len(vocabulary) + 1}
    characters = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    characters.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=characters, eos_token="</s>", pad_token="</s>", additional_special_tokens=["<s>"]
    )
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=128,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.2,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def save_reward_model(folder: Path) -> Qwen2ForSequenceClassification:
    """Write that base with a random head for one score; `<s>` is its padding, which ends no conversation here."""
    save_base(folder)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    config = Qwen2Config.from_pretrained(folder, num_labels=1, pad_token_id=tokenizer.convert_tokens_to_ids("<s>"))
    torch.manual_seed(1)
    model = Qwen2ForSequenceClassification(config).eval()
    torch.nn.init.normal_(model.score.weight, std=0.5)
    model.save_pretrained(folder)
    return model


def publish(claims: Path, name: str, *, seed: int) -> DesiredAdapter:
    """Write a random adapter of the base at <claims>/models/random to <claims>/artifacts/<name>-<seed>."""
    base = claims / "models/random"
    folder = claims / "artifacts" / f"{name}-{seed}"
    model = Qwen2ForCausalLM.from_pretrained(base, dtype=torch.float32)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
    tokens = [tokenizer(text)["input_ids"] for text in _PROBES]
    before = [_log_probabilities(model, row) for row in tokens]
    adapted = _random_adapter(model, seed)
    probes = [
        Probe(token_ids=row, base=base_row, result=_log_probabilities(adapted, row))
        for row, base_row in zip(tokens, before, strict=True)
    ]
    adapted.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    manifest = _manifest(folder, artifact.base_digest(base), probes, end_of_turn=tokenizer.eos_token_id)
    (folder / artifact.MANIFEST_FILE).write_text(json.dumps(manifest.to_json()))
    return DesiredAdapter(name=name, uri=f"pvc://artifacts/{folder.name}", digest=manifest.digest)


def _random_adapter(model: Qwen2ForCausalLM, seed: int) -> PeftModel:
    torch.manual_seed(seed)
    adapted = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, weights in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.15)
    return adapted.eval()


@torch.no_grad()
def _log_probabilities(model: torch.nn.Module, tokens: list[int]) -> list[float]:
    """log p of each token but the first, shape [length - 1]."""
    scores = model(torch.tensor([tokens])).logits[0].log_softmax(-1)
    return [round(float(row[token]), 4) for row, token in zip(scores, tokens[1:], strict=False)]


def _manifest(folder: Path, base_digest: str, probes: list[Probe], *, end_of_turn: int) -> Manifest:
    config = json.loads((folder / "adapter_config.json").read_text())
    files = artifact.payload(folder)
    return Manifest(
        kind="lora",
        method="sft",
        base=BaseReference(uri="pvc://models/random", digest=base_digest),
        rank=config["r"],
        target_modules=sorted(config["target_modules"]),
        files=files,
        weights_digest=artifact.files_digest(files),
        end_of_turn_token_ids=[end_of_turn],
        dtype="float32",
        probes=probes,
    )
