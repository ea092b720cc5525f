"""A reward model: a transformer whose head reads one number, the score, at the last token of a conversation.

The head reads at the last token that is not padding. So the padding token must be none that ends a conversation: else
transformers would read one place earlier than an engine that takes the last token.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification
from transformers.utils import logging

from posttrain_api.artifact import BaseReference, Manifest, Probe
from posttrain_api.conditions import Reason
from posttrain_trainer import batching, chat_template, export, probe
from posttrain_trainer import tokenizer as tokenizers
from posttrain_trainer.data import Message
from posttrain_trainer.places import Places
from posttrain_trainer.refusal import Refused
from posttrain_trainer.template import ChatFormat


def load_base(folder: Path, uri: str, device: str) -> Any:
    """The model in a folder with a head for one score, a random one where it has none, in evaluation mode.

    In float32, whatever the machine: the head is trained, and differences between scores are small.
    """
    logging.disable_progress_bar()
    before = logging.get_verbosity()
    logging.set_verbosity_error()  # else it warns that the language model's head is left out and the score's is new
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, num_labels=1, dtype=torch.float32, local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise Refused(Reason.MODEL_INVALID, f"{uri}: no reward model can be made of it: {error}") from error
    finally:
        logging.set_verbosity(before)
    return model.to(device).eval()


def pad_token_id(chat: ChatFormat) -> int:
    """The padding token: the tokenizer's own, or another where that one ends an answer."""
    known = [chat.tokenizer.pad_token_id, *chat.tokenizer.all_special_ids, *range(len(chat.end_of_turn) + 1)]
    return next(token for token in known if token not in chat.end_of_turn)


def use_padding(model: Any, chat: ChatFormat) -> None:
    """Let model and tokenizer pad with the same token, so that a batch is scored like its rows alone."""
    pad = pad_token_id(chat)
    chat.tokenizer.pad_token = chat.tokenizer.convert_ids_to_tokens(pad)
    model.config.get_text_config().pad_token_id = pad


def scores(model: Any, sequences: Sequence[Sequence[int]], *, between: Callable[[], None]) -> list[float]:
    """The raw score of each sequence of token ids, in their order. `between` is called after each batch."""
    pad = model.config.get_text_config().pad_token_id
    found: dict[int, float] = {}
    for batch in batching.batches(list(enumerate(sequences)), lambda item: len(item[1]), batching.MAX_TOKENS):
        rows = [tokens for _, tokens in batch]
        ids, attention = batching.padded(rows, pad, model.device), batching.padded(batching.ones(rows), 0, model.device)
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=attention, use_cache=False).logits[:, 0].float()
        found |= dict(zip((place for place, _ in batch), logits.tolist(), strict=True))
        between()
    return [found[place] for place in range(len(sequences))]


def whole(model: Any) -> Any:
    """The reward model with its adapter merged in: a copy, where it has one."""
    return copy.deepcopy(model).merge_and_unload().eval() if isinstance(model, PeftModel) else model


def write(model: Any, chat: ChatFormat, folder: Path) -> None:
    """Write a reward model's payload: a whole checkpoint with its head, the tokenizer and its chat template."""
    model.save_pretrained(folder, safe_serialization=True)
    export.write_tokenizer(chat.tokenizer, chat.template, folder)


def manifest(
    model: Any, chat: ChatFormat, folder: Path, *, base: BaseReference, recipe_digest: str, parents: list[str]
) -> Manifest:
    """The manifest of the folder that `write` filled; Refused where the model's scores are no numbers."""
    conversations = probe.conversations(chat)
    found = scores(model, conversations, between=lambda: None)
    probe.check_numbers([found])
    return export.manifest(
        folder,
        kind="reward-model",
        method="reward",
        base=base,
        recipe_digest=recipe_digest,
        parents=parents,
        end_of_turn=chat.end_of_turn,
        dtype="float32",
        probes=[
            Probe(token_ids=token_ids, base=[], result=[round(score, 4)])
            for token_ids, score in zip(conversations, found, strict=True)
        ],
    )


@dataclass(frozen=True)
class RewardModel:
    """A published reward model, ready to score."""

    model: Any
    chat: ChatFormat
    """Its own tokenizer and chat template, which need not be those of the model that answers."""

    def scores(
        self, conversations: Sequence[tuple[Sequence[Message], str]], *, between: Callable[[], None] = lambda: None
    ) -> list[float]:
        """The raw score of each answer to its messages, written as the pairs that it learned from and as a server
        writes them."""
        return scores(self.model, [self._token_ids(*conversation) for conversation in conversations], between=between)

    def _token_ids(self, messages: Sequence[Message], answer: str) -> list[int]:
        text = self.chat.render([*self.chat.conversation(messages), {"role": "assistant", "content": answer}])
        ids: list[int] = self.chat.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


def load(folder: Path, uri: str, digest: str, device: str) -> RewardModel:
    """The reward model in an artifact's folder; Refused where it is not whole, or not the one with this digest."""
    if not export.is_complete(folder, digest):
        raise Refused(
            Reason.ARTIFACT_MISSING, f"{uri}: the reward model {digest[:19]} is not here whole: run its training again"
        )
    tokenizer = tokenizers.load(folder, uri)
    chat = ChatFormat(tokenizer, chat_template.require(chat_template.chosen(None, tokenizer, Places())))
    return RewardModel(load_base(folder, uri, device), chat)
