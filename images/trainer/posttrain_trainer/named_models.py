"""The models that a recipe names beside its base, a teacher and reward models: seen by their shapes and tokenizers
alone, so that what cannot work is said before a GPU is taken."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import RunConfig
from posttrain_trainer import base as bases
from posttrain_trainer import tokenizer as tokenizers
from posttrain_trainer.base import Base
from posttrain_trainer.places import Places
from posttrain_trainer.refusal import Refused


@dataclass(frozen=True)
class NamedModels:
    """What is in memory beside the base."""

    teacher: Base | None = None
    reward_models: Sequence[Base] = ()


def read(config: RunConfig, places: Places, base: Base, tokenizer: Any) -> NamedModels:
    """The models that a recipe names; Refused where one is not there whole or cannot be compared with the base."""
    return NamedModels(_teacher(config, places, base, tokenizer), _reward_models(config, places))


def teacher_uri(config: RunConfig) -> str:
    """Folder of the teacher."""
    source, block = config.sources.get("distill.teacher"), config.recipe.distill
    assert block is not None, "only distill has a teacher"
    found = source.uri if source else block.teacher.uri
    assert found is not None, "distill.teacher.fromRun without its source"
    return found


def _teacher(config: RunConfig, places: Places, base: Base, tokenizer: Any) -> Base | None:
    if config.recipe.distill is None:
        return None
    uri = teacher_uri(config)
    found = bases.read(places.path(uri), uri)
    if tokenizers.load(places.path(uri), uri).get_vocab() != tokenizer.get_vocab():
        raise _unlike(uri, "the teacher has another vocabulary")
    if found.vocabulary != base.vocabulary:
        raise _unlike(uri, f"the teacher scores {found.vocabulary} tokens and the base {base.vocabulary}")
    return found


def _unlike(uri: str, why: str) -> Refused:
    return Refused(Reason.TEACHER_INVALID, f"{uri}: {why}: name a teacher of the base's own family in distill.teacher")


def _reward_models(config: RunConfig, places: Places) -> list[Base]:
    named = [place for place, reward in enumerate(config.recipe.environment.rewards) if reward.model]
    sources = [config.sources[f"environment.rewards.{place}"] for place in named]
    return [bases.read(places.path(source.uri), source.uri) for source in sources]
