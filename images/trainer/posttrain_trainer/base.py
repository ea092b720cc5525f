"""The base model's folder, read without a tensor library: its configuration and the shapes of its weights.

Preflight needs no more, and its pod stays small.
"""

import json
import math
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from posttrain_api.conditions import Reason
from posttrain_trainer.refusal import Refused

_NOT_LINEAR = re.compile(r"embed|(^|\.)(wte|wpe|lm_head|norm|ln_[0-9f])(\.|$)")
_EMBEDDING = re.compile(r"(embed_tokens|wte|embed_in|word_embeddings)\.weight$")
_LAYER = re.compile(r"(.*?)\.(\d+)\.")
_INDEX = "model.safetensors.index.json"
PRESETS = {
    "attention": re.compile(r"(^|\.)(self_attn|attn|attention|self_attention|linear_attn)\."),
    "mlp": re.compile(r"(^|\.)(mlp|feed_forward|ffn|experts|shared_expert)\."),
}
"""Name of a group of layers -> what the path to one of them looks like."""


@dataclass(frozen=True)
class Base:
    """A base model's shape."""

    uri: str
    config: Mapping[str, Any]
    """config.json."""
    shapes: Mapping[str, tuple[int, ...]]
    """Name of a weight -> its shape."""

    @property
    def num_parameters(self) -> int:
        """Weights of the model."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def vocabulary(self) -> int:
        """Number of tokens that the model knows."""
        return max((shape[0] for name, shape in self.shapes.items() if _EMBEDDING.search(name)), default=sys.maxsize)

    @property
    def num_positions(self) -> int | None:
        """Tokens of a text that it was made for; None where its configuration does not say."""
        found = self.config.get("max_position_embeddings") or self.config.get("n_positions")
        return found if isinstance(found, int) else None

    @property
    def hidden_size(self) -> int:
        """Width of a layer."""
        return max((shape[1] for name, shape in self.shapes.items() if _EMBEDDING.search(name)), default=0)

    @property
    def cached_numbers(self) -> int:
        """Keys and values of one token in all layers; as many as are possible where no weights are called so."""
        named = [shape[0] for name, shape in self.linear_layers.items() if name.endswith((".k_proj", ".v_proj"))]
        return sum(named) or 2 * self.hidden_size * self.num_layers

    @property
    def num_layers(self) -> int:
        """Transformer layers: the numbered modules of the list that has most of them."""
        numbered = {found.groups() for name in self.shapes if (found := _LAYER.match(name))}
        return max(Counter(path for path, _ in numbered).values(), default=0)

    @property
    def linear_layers(self) -> dict[str, tuple[int, int]]:
        """Full name of each linear layer but the output head -> its two dimensions."""
        weights = {
            name.removesuffix(".weight"): shape for name, shape in self.shapes.items() if name.endswith(".weight")
        }
        return {
            name: (shape[0], shape[1])
            for name, shape in weights.items()
            if len(shape) == 2 and not _NOT_LINEAR.search(name)
        }

    def adapted_layers(self, target_modules: Sequence[str]) -> dict[str, tuple[int, int]]:
        """The linear layers that these names choose, all where there is none; Refused where a name chooses nothing."""
        layers = self.linear_layers
        for target in target_modules:
            if not any(_is_chosen(name, target) for name in layers):
                raise Refused(Reason.TARGET_MODULES_INVALID, _no_such_layer(self.uri, target, short_names(layers)))
        return {
            name: shape
            for name, shape in layers.items()
            if not target_modules or any(_is_chosen(name, target) for target in target_modules)
        }

    def check_rank(self, field: str, rank: int, target_modules: Sequence[str]) -> None:
        """Refused where a rank is larger than the smaller dimension of a chosen layer, so no matrix has it."""
        layers = self.adapted_layers(target_modules)
        name = min(layers, key=lambda name: min(layers[name]))
        limit = min(layers[name])
        if rank > limit:
            sentence = (
                f"{field} is {rank}, and layer {name} of {self.uri} has {limit} directions: write {limit} or less"
            )
            raise Refused(Reason.INVALID_SPEC, sentence)

    def targets(self, target_modules: Sequence[str]) -> list[str]:
        """The names for PEFT, which knows no presets: short ones where they choose the same layers, else full ones."""
        if not any(target in PRESETS for target in target_modules):
            return list(target_modules)
        chosen = self.adapted_layers(target_modules)
        short = short_names(chosen)
        return short if self.adapted_layers(short).keys() == chosen.keys() else sorted(chosen)


def read(folder: Path, uri: str) -> Base:
    """The base in a folder; Refused where there is no complete transformers checkpoint in safetensors."""
    if not folder.is_dir():
        raise Refused(Reason.MODEL_NOT_FOUND, f"{uri}: there is no such folder")
    config = _json(folder / "config.json", uri)
    shapes: dict[str, tuple[int, ...]] = {}
    for path in _weight_files(folder, uri):
        shapes |= _shapes(path, uri)
    return Base(uri, config, shapes)


def short_names(layers: Mapping[str, Any]) -> list[str]:
    """Names of layers without the path to them, sorted and each once."""
    return sorted({name.rpartition(".")[2] for name in layers})


def _is_chosen(name: str, target: str) -> bool:
    if target in PRESETS:
        return bool(PRESETS[target].search(name))
    return name == target or name.endswith(f".{target}")


def _no_such_layer(uri: str, target: str, names: list[str]) -> str:
    near = get_close_matches(target.rpartition(".")[2].lower(), [*names, *(PRESETS.keys() - {target})])
    hint = f" (nearest: {', '.join(near)})" if near else ""
    return (
        f"tuning.lora.targetModules: {uri} has no linear layer {target!r}{hint}: write some of {', '.join(names)}, "
        "or attention or mlp, or leave targetModules out to adapt all of them"
    )


def _weight_files(folder: Path, uri: str) -> list[Path]:
    files = sorted(folder.glob("*.safetensors"))
    if (folder / _INDEX).is_file():
        named = {folder / name for name in _json(folder / _INDEX, uri).get("weight_map", {}).values()}
        missing = sorted(path.name for path in named - set(files))
        if missing:
            raise Refused(Reason.MODEL_INVALID, f"{uri}: {_INDEX} names {missing[0]}, which is missing")
    if not files:
        raise Refused(Reason.MODEL_INVALID, f"{uri}: there are no *.safetensors: only this format is loaded")
    return files


def _shapes(path: Path, uri: str) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(path, framework="numpy") as weights:
            return {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise Refused(Reason.MODEL_INVALID, f"{uri}: {path.name} cannot be read: {error}") from error


def _json(path: Path, uri: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise Refused(Reason.MODEL_INVALID, f"{uri}: {path.name} is missing: this is no transformers model") from None
    except (ValueError, OSError) as error:
        raise Refused(Reason.MODEL_INVALID, f"{uri}: {path.name} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise Refused(Reason.MODEL_INVALID, f"{uri}: {path.name} is no JSON object")
    return value
