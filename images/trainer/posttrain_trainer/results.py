"""Writes a trained model as its tuning wants it published, with the proof of what was written.

An adapter that works on the untouched base is published as it is. What vLLM cannot load as an adapter becomes a whole
model; an adapter whose start was taken out of the base becomes plain LoRA of twice the rank.
"""

import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from peft import PeftModel

from posttrain_api.artifact import BaseReference, Kind, Manifest, Probe, digest_of
from posttrain_api.trainer_contract import RunConfig
from posttrain_api.v1alpha1.tuning import Tuning
from posttrain_trainer import export, merging, model, probe, tuning
from posttrain_trainer.places import Places
from posttrain_trainer.template import ChatFormat


def kind_of(chosen: Tuning) -> Kind:
    """What a tuning publishes."""
    if chosen.full or chosen.osft or (chosen.lora and chosen.lora.dora):
        return "model"
    return "prompt" if chosen.prompt_tuning else "lora"


@dataclass(frozen=True)
class Result:
    """A trained model, and what its artifact says of it."""

    tuned: Any
    config: RunConfig
    places: Places
    chat: ChatFormat
    base: BaseReference

    def write(self, folder: Path) -> Manifest:
        """Fill an artifact's folder; Refused where the result does not differ from its base."""
        kind = kind_of(self.config.recipe.tuning)
        if kind == "model":
            self._write_whole(folder)
        else:
            start = tuning.starting_point(self.tuned)
            export.write_adapter(
                self.tuned,
                self.chat.tokenizer,
                template=self.chat.template,
                base=self.base.uri,
                folder=folder,
                start=start,
            )
        return export.manifest(
            folder,
            kind=kind,
            method=self.config.recipe.method,
            base=self.base,
            recipe_digest=digest_of(self.config.recipe.to_json()),
            parents=self.config.parents,
            end_of_turn=self.chat.end_of_turn,
            dtype=self._precision.dtype,
            probes=self._probes(kind, folder),
        )

    @property
    def _folder(self) -> Path:
        return self.places.path(self.config.base_uri)

    @property
    def _precision(self) -> model.Precision:
        return model.precision(self.config.recipe.hyperparameters.precision)

    def _write_whole(self, folder: Path) -> None:
        found = self._copied() if self.config.recipe.tuning.full else self._merged()
        merging.write_model(found, folder, dtype=model.saved_dtype(self._folder))
        export.write_tokenizer(self.chat.tokenizer, self.chat.template, folder)
        merging.set_end_of_turn(folder, self.chat.end_of_turn, base=self._folder)

    def _copied(self) -> Any:
        """In a base read anew on the CPU: a GPU has no room for a copy beside what is still trained."""
        found = model.load_base(self._folder, self.base.uri, model.Precision("cpu", "float32"))
        found.load_state_dict(self.tuned.state_dict())
        return found

    def _merged(self) -> Any:
        """Of a base read anew: merging would change the model that is still trained, or whose weights are rounded."""
        with tempfile.TemporaryDirectory(prefix="posttrain-") as adapter:
            self.tuned.save_pretrained(adapter)
            return merging.merged(self._folder, self.base.uri, Path(adapter))

    def _probes(self, kind: Kind, folder: Path) -> list[Probe]:
        """Of the model in memory, where switching its adapter off gives the base; else of what was written."""
        lora, precision = self.config.recipe.tuning.lora, self._precision
        if kind == "model":
            before = self._scores_of_base
            after = probe.scores(model.load_base(folder, str(folder), precision), self.chat)
            return probe.compared(self.chat, before, after, precision.dtype)
        if lora and lora.quantization != "none":
            # The GPU was chosen for a base of 4 bits: one of 16 beside it may find no room there.
            return self._probes_of_written(folder, replace(precision, device="cpu"))
        if tuning.starting_point(self.tuned):
            return self._probes_of_written(folder, precision)
        return probe.probes(self.tuned, self.chat)

    def _probes_of_written(self, folder: Path, precision: model.Precision) -> list[Probe]:
        fresh = model.load_base(self._folder, self.base.uri, precision)
        return probe.probes(PeftModel.from_pretrained(fresh, str(folder)).eval(), self.chat)

    @cached_property
    def _scores_of_base(self) -> list[list[float]]:
        return probe.scores(model.load_base(self._folder, self.base.uri, self._precision), self.chat)
