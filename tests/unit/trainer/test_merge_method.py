"""Method merge: several adapters of one base as one."""

import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from tests.unit.trainer import builders
from tests.unit.trainer.test_merging import IDS, adapter
from transformers import AutoModelForCausalLM

from posttrain_api.artifact import BaseReference, base_digest
from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import Source
from posttrain_trainer import model, results, task
from posttrain_trainer.job import Job
from posttrain_trainer.methods import merge
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Refused, Stop

WEIGHTS = [0.7, -0.4]


@pytest.fixture(scope="module")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Source]:
    """Two adapters of different rank, scale and layers, the first of them rank-stabilized."""
    folder = tmp_path_factory.mktemp("adapters")
    options: list[dict[str, Any]] = [
        {"r": 4, "lora_alpha": 8, "use_rslora": True},
        {"r": 6, "lora_alpha": 6, "target_modules": ["v_proj", "down_proj"]},
    ]
    digests = [adapter(base, folder / str(place), seed=place, **chosen) for place, chosen in enumerate(options)]
    return [
        Source(run=f"run-{place}", uri=f"file://{folder}/{place}", digest=digest, kind="lora")
        for place, digest in enumerate(digests)
    ]


def job(base: Path, tmp_path: Path, adapters: list[Source], *, with_template: bool = True, **block: Any) -> Job:
    dataset = builders.json_lines(tmp_path / "rows.jsonl", builders.exchanges(20))
    runs = [{"name": each.run, "weight": weight} for each, weight in zip(adapters, WEIGHTS, strict=True)]
    template = {"chatTemplate": {"inline": builders.CHATML}} if with_template else {}
    config = builders.run(
        base,
        dataset,
        environment={"dataset": {"uri": f"file://{dataset}"}, **template},
        method="merge",
        merge={"runs": runs, **block},
        tuning={},
        hyperparameters={},
        evaluation={"metrics": ["loss"]},
    )
    config = config.replace(sources={f"merge.runs.{place}": each for place, each in enumerate(adapters)})
    precision = model.Precision("cpu", "float32")
    prepared = task.prepare(config, Places(), Stop())
    return Job(config, Places(), prepared, precision, Progress(config.name), Stop())


def combined(work: Job) -> Any:
    return merge.combined(model.load(work.config, work.places, work.precision), work)


def logits(found: Any) -> torch.Tensor:
    with torch.no_grad():
        return found(input_ids=IDS).logits


def deltas(base: Path, source: Source) -> dict[str, torch.Tensor]:
    """What an adapter adds to each layer's weight, computed by merging it alone."""
    bare = AutoModelForCausalLM.from_pretrained(base)
    before = {name: weight.clone() for name, weight in bare.state_dict().items()}
    after = peft.PeftModel.from_pretrained(bare, source.uri.removeprefix("file://")).merge_and_unload().state_dict()
    return {name: after[name] - before[name] for name in before}


def summed(base: Path, adapters: list[Source]) -> Any:
    """The base with the weighted sum of all deltas added by hand."""
    expected = AutoModelForCausalLM.from_pretrained(base).eval()
    changes = [deltas(base, source) for source in adapters]
    with torch.no_grad():
        for name, weight in expected.named_parameters():
            for factor, change in zip(WEIGHTS, changes, strict=True):
                weight += factor * change[name]
    return expected


@pytest.mark.parametrize("block", [{}, {"rank": 10}], ids=["exact", "decomposed"])
def test_the_weighted_sum_is_the_base_and_the_sum_of_the_changes(
    base: Path, tmp_path: Path, adapters: list[Source], block: dict[str, int]
) -> None:
    tuned = combined(job(base, tmp_path, adapters, **block))
    expected = logits(summed(base, adapters))
    assert torch.allclose(logits(tuned), expected, atol=1e-5)
    assert not torch.allclose(logits(AutoModelForCausalLM.from_pretrained(base)), expected, atol=1e-3)
    assert (list(tuned.peft_config), tuned.peft_config["default"].r) == (["default"], 10)


@pytest.mark.parametrize("combination", ["ties", "dareTies", "dareLinear"])
def test_ties_and_dare_end_in_the_rank_and_repeat_by_their_seed(
    base: Path, tmp_path: Path, adapters: list[Source], combination: str
) -> None:
    work = job(base, tmp_path, adapters, combination=combination, rank=3, density=0.6)
    first, second = combined(work), combined(work)
    assert first.peft_config["default"].r == 3
    assert torch.equal(logits(first), logits(second))


def test_with_everything_kept_dare_is_the_weighted_sum(base: Path, tmp_path: Path, adapters: list[Source]) -> None:
    tuned = combined(job(base, tmp_path, adapters, combination="dareLinear", rank=32, density=1.0))
    assert torch.allclose(logits(tuned), logits(summed(base, adapters)), atol=1e-5)


def test_the_result_is_published_like_a_trained_adapter(base: Path, tmp_path: Path, adapters: list[Source]) -> None:
    work = job(base, tmp_path, adapters)
    tuned = combined(work)
    folder = tmp_path / "artifact"
    folder.mkdir()
    reference = BaseReference(uri=f"file://{base}", digest=base_digest(base))
    found = results.Result(tuned, work.config, work.places, work.task.chat, reference).write(folder)
    assert (found.kind, found.method, found.rank) == ("lora", "merge", 10)
    assert found.target_modules == ["down_proj", "q_proj", "v_proj"]
    assert found.parents == sorted(source.digest for source in adapters)
    loaded = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(folder))
    assert torch.allclose(logits(loaded), logits(tuned), atol=1e-6)


def test_a_rank_that_no_layer_has_is_refused_without_preflight_too(
    base: Path, tmp_path: Path, adapters: list[Source]
) -> None:
    # PEFT would write fewer directions than it says, and nothing could load that.
    with pytest.raises(Refused, match=r"^merge.rank is 33, and .* has 32 directions: write 32 or less") as refused:
        combined(job(base, tmp_path, adapters, rank=33))
    assert refused.value.reason == Reason.INVALID_SPEC


def test_adapters_of_different_bases_are_refused(base: Path, tmp_path: Path, adapters: list[Source]) -> None:
    other = tmp_path / "other"
    shutil.copytree(base, other)
    (other / "added_tokens.json").write_text("{}")
    digest = adapter(other, tmp_path / "of-other")
    stranger = Source(run="stranger", uri=f"file://{tmp_path}/of-other", digest=digest, kind="lora")
    with pytest.raises(
        Refused, match=r"^merge.runs: run-0 was trained on .* and stranger on file://.*/other"
    ) as refused:
        combined(job(base, tmp_path, [adapters[0], stranger]))
    assert refused.value.reason == Reason.ADAPTERS_DIFFER


def test_adapters_of_another_base_than_the_runs_are_refused(base: Path, tmp_path: Path, adapters: list[Source]) -> None:
    other = Path(shutil.copytree(base, tmp_path / "other"))
    (other / "added_tokens.json").write_text("{}")
    with pytest.raises(Refused, match=r"/other: is sha256:.*, and the adapter was trained on sha256:"):
        combined(job(other, tmp_path, adapters))


def test_an_adapter_that_is_not_what_was_accepted_is_refused(
    base: Path, tmp_path: Path, adapters: list[Source]
) -> None:
    swapped = adapters[1].replace(digest=adapters[0].digest)
    with pytest.raises(Refused, match="holds sha256:") as refused:
        combined(job(base, tmp_path, [adapters[0], swapped]))
    assert refused.value.reason == Reason.DIGEST_MISMATCH


def test_the_template_is_the_one_that_the_adapters_were_trained_with(
    base: Path, tmp_path: Path, adapters: list[Source]
) -> None:
    folders = [shutil.copytree(Path(each.uri.removeprefix("file://")), tmp_path / each.run) for each in adapters]
    moved = [each.replace(uri=f"file://{folder}") for each, folder in zip(adapters, folders, strict=True)]
    for folder in folders:
        (folder / "chat_template.jinja").write_text("{% for message in messages %}{{ message.content }}|{% endfor %}")
    template = job(base, tmp_path, moved, with_template=False).task.chat.template
    assert template == (folders[0] / "chat_template.jinja").read_text()

    (folders[1] / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(Refused, match="run-0 and run-1 were trained with different chat templates") as refused:
        job(base, tmp_path, moved, with_template=False)
    assert refused.value.reason is Reason.ADAPTERS_DIFFER
    assert job(base, tmp_path, moved).task.chat.template != template
