"""The base's tokenizer, and what it writes at the beginning and end of a text."""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from posttrain_api.conditions import Reason
from posttrain_trainer.refusal import Refused

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


def load(folder: Path, uri: str) -> Any:
    """The tokenizer of a base model's folder; Refused where it has none that tells the place of each token."""
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise Refused(Reason.MODEL_INVALID, f"{uri}: the base has no tokenizer: tokenizer.json is missing")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise Refused(Reason.MODEL_INVALID, f"{uri}: the tokenizer cannot be read: {error}") from error
    if not tokenizer.is_fast:
        raise Refused(Reason.MODEL_INVALID, f"{uri}: the tokenizer is not of the fast kind: add tokenizer.json")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def whole_text(tokenizer: Any, text: str) -> str:
    """A plain text with the tokens that begin and end it, as the base was pre-trained."""
    is_begun = tokenizer.bos_token_id is not None and tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]
    begin, end = (tokenizer.bos_token if is_begun else ""), (tokenizer.eos_token or "")
    return text.removeprefix(begin).removesuffix(end).join([begin, end])


def end_of_text(tokenizer: Any) -> tuple[int, ...]:
    """The token that ends a text, if there is one."""
    return () if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,)
