"""The demo's base model as such: a Qwen2 of 650,000 parameters, trained on plain text.

It knows facts and no form: it has never seen a chat, and its tokenizer has no chat template, as with a real base model.
"""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import torch
from examples.demo.facts import KINDS, Kind
from examples.demo.recipe import END_OF_TEXT, FRAMES, TURN_END, TURN_START, Recipe, line, lines
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from transformers.utils import logging

MAX_ANSWER_TOKENS = 16


def new_tokenizer(recipe: Recipe) -> PreTrainedTokenizerFast:
    """A byte-level BPE of the text, each digit a token of its own, without a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        special_tokens=[END_OF_TEXT, TURN_START, TURN_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(itertools.islice(lines(recipe), 5000), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        extra_special_tokens=[TURN_START, TURN_END],
        model_max_length=recipe.positions,
    )


def new_model(recipe: Recipe, *, tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    """An untrained Qwen2 in float32."""
    torch.manual_seed(recipe.seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.intermediate,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=recipe.positions,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    return Qwen2ForCausalLM(config)


def batches(recipe: Recipe, *, tokenizer: PreTrainedTokenizerFast) -> Iterator[torch.Tensor]:
    """Token ids without end, shape [rows, row_tokens]; each row begins with a line."""
    generator = random.Random(recipe.seed)
    token_ids = tokenizer(list(itertools.islice(lines(recipe), recipe.lines)))["input_ids"]
    while True:
        yield torch.tensor([_row(token_ids, generator=generator, recipe=recipe) for _ in range(recipe.rows)])


def _row(token_ids: list[list[int]], *, generator: random.Random, recipe: Recipe) -> list[int]:
    row: list[int] = []
    while len(row) < recipe.row_tokens:
        row += generator.choice(token_ids)
    return row[: recipe.row_tokens]


class TinyModel:
    """The model while it is made."""

    def __init__(self, recipe: Recipe) -> None:
        """A new one, untrained."""
        self.recipe = recipe
        self.tokenizer = new_tokenizer(recipe)
        self.model = new_model(recipe, tokenizer=self.tokenizer)
        self.batches = batches(recipe, tokenizer=self.tokenizer)

    def train(self) -> Iterator[float]:
        """Train it as the recipe says; yields the loss of each step, in nats per token."""
        yield from self._steps(self.recipe.steps, learning_rate=self.recipe.learning_rate)
        self._separate_turn_tokens()

    def train_on(self) -> Iterator[float]:
        """Train it one extra round; yields the loss of each step, in nats per token."""
        return self._steps(self.recipe.extra_steps, learning_rate=self.recipe.extra_learning_rate)

    def _separate_turn_tokens(self) -> None:
        """Give the tokens of a chat vectors of their own: all that the text never shows drift to one and the same."""
        vectors = self.model.get_input_embeddings().weight.data
        generator = torch.Generator().manual_seed(self.recipe.seed)
        length = vectors.norm(dim=1).mean() / vectors.shape[1] ** 0.5
        for token in self.tokenizer.convert_tokens_to_ids([TURN_START, TURN_END]):
            vectors[token] = torch.randn(vectors.shape[1], generator=generator) * length

    def _steps(self, steps: int, *, learning_rate: float) -> Iterator[float]:
        warmup = self.recipe.warmup_steps
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.01)
        rate = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / warmup, (steps - step) / (steps - warmup))
        )
        self.model.train()
        for token_ids in itertools.islice(self.batches, steps):
            loss = self.model(input_ids=token_ids, labels=token_ids).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            rate.step()
            yield loss.item()

    def accuracies(self, *, round_number: int) -> dict[str, float]:
        """Of each kind, the share of fresh held-out facts that it completes to the letter in their plain form."""
        generator = random.Random(f"{self.recipe.seed} {round_number}")
        return {kind.name: self._accuracy(kind, generator) for kind in KINDS}

    def _accuracy(self, kind: Kind, generator: random.Random) -> float:
        facts = [kind.sample(generator, held_out=True) for _ in range(self.recipe.checked_facts)]
        texts = [line(fact, frame=generator.choice(FRAMES)) for fact in facts]
        ends = [text.rindex(fact.value) for text, fact in zip(texts, facts, strict=True)]
        completions = self._completions([text[:end] for text, end in zip(texts, ends, strict=True)])
        expected = [text[end:].rstrip("\n") for text, end in zip(texts, ends, strict=True)]
        return sum(map(str.__eq__, completions, expected)) / len(facts)

    @torch.inference_mode()
    def _completions(self, prompts: list[str]) -> list[str]:
        self.model.eval()
        inputs = self.tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
        produced = self.model.generate(**inputs, max_new_tokens=MAX_ANSWER_TOKENS, do_sample=False)
        texts = self.tokenizer.batch_decode(produced[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return [text.split("\n")[0] for text in texts]

    def save(self, folder: Path) -> None:
        """Write a transformers checkpoint that everyone may read: float32 safetensors, configuration and tokenizer."""
        logging.disable_progress_bar()
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        for path in folder.iterdir():
            path.chmod(0o644)  # safetensors writes files for their owner alone; pods run as another user
