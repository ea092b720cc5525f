"""How the base model comes into the cache, on a miniature of its recipe; and the second measurement, on that model."""

import dataclasses
import io
from pathlib import Path

import pytest
from examples.demo import base, measure
from examples.demo.recipe import Recipe
from examples.demo.tasks import Row
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

MINIATURE = Recipe(
    hidden=32,
    intermediate=32,
    layers=1,
    heads=1,
    lines=100,
    rows=2,
    row_tokens=16,
    steps=3,
    warmup_steps=1,
    extra_rounds=2,
    extra_steps=2,
    checked_facts=2,
    required_accuracy=0.0,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model, as set-up leaves it."""
    made = base.model_folder(tmp_path_factory.mktemp("cache"))
    base.make(made, recipe=MINIATURE, console=Console(file=io.StringIO()))
    return made


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"POSTTRAIN_CACHE": "/a"}, "/a"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/posttrain"),
        ({}, str(Path.home() / ".cache" / "posttrain")),
    ],
    ids=["the Makefile says where", "the XDG cache", "the default"],
)
def test_the_cache_lies_where_the_makefile_has_it(environment: dict[str, str], expected: str):
    assert str(base.cache_folder(environment)) == expected


def test_it_is_a_checkpoint_that_transformers_loads(folder: Path):
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    assert (model.config.model_type, str(model.dtype)) == ("qwen2", "torch.float32")
    assert model.config.hidden_size // model.config.num_attention_heads == 32
    assert tokenizer.chat_template is None
    assert tokenizer.tokenize("305") == ["3", "0", "5"]
    assert tokenizer.tokenize("<|im_start|>a<|im_end|>")[::2] == ["<|im_start|>", "<|im_end|>"]


def test_pods_of_another_user_can_read_it(folder: Path):
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


def test_the_same_recipe_is_made_once_and_another_anew(folder: Path, tmp_path: Path):
    assert base.is_current(folder, recipe=MINIATURE)
    assert not base.is_current(folder, recipe=Recipe())
    assert not base.is_current(tmp_path / "nothing", recipe=MINIATURE)


def test_a_model_that_learned_too_little_is_not_kept(tmp_path: Path):
    console = Console(file=io.StringIO())
    strict = dataclasses.replace(MINIATURE, required_accuracy=0.99)
    with pytest.raises(ValueError, match=r"did not learn its facts: dates 0.0%, numbers 0.0%, 99% is needed"):
        base.make(tmp_path / "models" / "tiny", recipe=strict, console=console)
    assert not list(tmp_path.rglob("*"))


def test_what_was_cut_off_is_cleared_away_and_an_old_model_replaced(tmp_path: Path):
    folder, part = tmp_path / "tiny", tmp_path / ".tiny.part"
    for left_over in (folder, part):
        left_over.mkdir()
        (left_over / "old").touch()
    base.make(folder, recipe=MINIATURE, console=Console(file=io.StringIO()))
    assert base.is_current(folder, recipe=MINIATURE)
    assert not (folder / "old").exists()
    assert list(tmp_path.iterdir()) == [folder]


def test_the_measurement_counts_answers_to_the_letter(folder: Path):
    questions = ["Write in digits: twelve.", "Write in digits: six hundred and seven."]
    said = measure.answers(base=folder, adapter=None, questions=questions)
    rows = [Row(questions[0], said[0]), Row(questions[1], said[1] + "!")]
    assert measure.exact_match(base=folder, adapter=None, rows=rows) == 0.5


def test_the_measurement_asks_for_each_answer_alone(folder: Path):
    questions = ["Write in digits: twelve.", "Write as an ISO date: 21 November 2026."]
    together = measure.answers(base=folder, adapter=None, questions=questions)
    alone = [measure.answers(base=folder, adapter=None, questions=[question])[0] for question in questions]
    assert together == alone
