"""Whole runs of what is not plain sft with LoRA: two steps each, and everything that a run publishes."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from tests.unit.trainer import builders
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from posttrain_api.artifact import MANIFEST_FILE, Kind, Manifest, differences, digest_of, folder_name
from posttrain_api.trainer_contract import RunConfig, Source, TrainingReport
from posttrain_trainer import answers, reward_model, training
from posttrain_trainer import tokenizer as tokenizers
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Stop
from posttrain_trainer.template import ChatFormat

NUMBERS = {"maxSteps": 2, "warmupSteps": 0, "effectiveBatchSize": 4, "learningRate": 0.01, "maxLength": 128}
LORA = {"rank": 4, "alpha": 8}
JUDGE = "environment.rewards.0"


@dataclass(frozen=True)
class Case:
    """A run: its spec, the rows that it reads, and what it makes."""

    kind: Kind
    rows: str = "answers"
    spec: dict[str, Any] | None = None
    parents: tuple[str, ...] = ()
    """Where in the recipe another case's result is used, and which: place=name."""


def lora(**chosen: Any) -> dict[str, Any]:
    return {"tuning": {"lora": {**LORA, **chosen}}}


def pairs(method: str, **spec: Any) -> Case:
    return Case("lora", "pairs", {"method": method, "allowUntunedBase": True, **spec})


REWARDS = {"rewards": [{"model": {"fromRun": {"name": "judge"}}}]}
ANSWERED = {"metrics": ["loss", "exactMatch", "stopRate", "meanTokens"], "maxCompletionTokens": 8}
JUDGED = {
    "metrics": ["loss"],
    "gates": [{"metric": "loss", "max": 100}, {"metric": "loss", "minGain": 90.5}],
    "samplePrompts": ["Who made you?"],
    "maxCompletionTokens": 4,
}
STOPPING = {
    "metrics": ["divergence"],
    "maxCompletionTokens": 4,
    "earlyStopping": {"metric": "divergence", "everySteps": 1},
}
CASES = {
    "dora": Case("model", spec=lora(dora=True)),
    "olora": Case("lora", spec=lora(init="olora")),
    "pissa": Case("lora", "texts", lora(init="pissa")),
    "eva": Case("lora", spec=lora(init="eva")),
    "full": Case("model", spec={"tuning": {"full": {}}, "evaluation": JUDGED}),
    "osft": Case("model", spec={"tuning": {"osft": {}}}),
    "prompt": Case("prompt", spec={"tuning": {"promptTuning": {"virtualTokens": 4}}, "evaluation": ANSWERED}),
    "simpo": pairs("simpo"),
    "orpo": pairs("orpo"),
    "kto": Case("lora", "labelled", {"method": "kto", "allowUntunedBase": True}),
    "distill": Case("lora", "prompts", {"method": "distill", "evaluation": STOPPING}),
    "reward osft": Case("reward-model", "pairs", {"method": "reward", "tuning": {"osft": {}}}),
    "reward dora": Case("reward-model", "pairs", {"method": "reward", **lora(dora=True)}),
    "reward full": Case("reward-model", "pairs", {"method": "reward", "tuning": {"full": {}}}),
    "bestOf": Case(
        "dataset",
        "prompts",
        {"method": "bestOf", "bestOf": {"samples": 3, "maxCompletionTokens": 4}, "environment": REWARDS, "tuning": {}},
        (f"{JUDGE}=reward full",),
    ),
    "merge": Case(
        "lora",
        spec={"method": "merge", "merge": {"runs": [{"name": "eva"}, {"name": "olora"}]}, "tuning": {}},
        parents=("merge.runs.0=eva", "merge.runs.1=olora"),
    ),
    "judged by a reward model": Case(
        "lora",
        spec={"environment": REWARDS, "evaluation": {"metrics": ["reward"], "maxCompletionTokens": 4}},
        parents=(f"{JUDGE}=reward full",),
    ),
}


@dataclass(frozen=True)
class Run:
    """A case that has run."""

    case: Case
    config: RunConfig
    report: TrainingReport
    progress: Progress
    claims: Path

    @property
    def folder(self) -> Path:
        """Of its artifact."""
        return self.claims / "out" / "double" / folder_name(self.report.artifact.digest)

    @property
    def manifest(self) -> Manifest:
        return Manifest.model_validate_json((self.folder / MANIFEST_FILE).read_bytes())


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("rows")
    numbers = range(24)
    written = {
        "answers": builders.exchanges(24),
        "pairs": [{"prompt": f"Add {n}", "chosen": f"Please {n}", "rejected": f"Go {n} away"} for n in numbers],
        "labelled": [
            {"prompt": f"Add {n // 2}", "completion": f"Please {n}" if n % 2 else f"Go {n} away", "label": bool(n % 2)}
            for n in range(48)
        ],
        "texts": [{"text": f"{n} and {n} is {2 * n}"} for n in numbers],
        "prompts": [{"prompt": f"Say {n}", "gold": str(n)} for n in numbers],
    }
    return {name: builders.json_lines(folder / f"{name}.jsonl", given) for name, given in written.items()}


@pytest.fixture(scope="module")
def teacher(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base with somewhat other weights."""
    folder = shutil.copytree(base, tmp_path_factory.mktemp("teacher") / "model")
    found = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(1)
    for weight in found.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    found.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def ran(
    base: Path, rows: dict[str, Path], teacher: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Run]:
    """The run of a case, once for all tests."""
    done: dict[str, Run] = {}

    def run(name: str) -> Run:
        if name not in done:
            done[name] = trained(CASES[name], tmp_path_factory.mktemp("claims"))
        return done[name]

    def trained(case: Case, claims: Path) -> Run:
        spec = {"hyperparameters": {} if case.parents and "merge" in case.parents[0] else NUMBERS, **(case.spec or {})}
        template = {} if case.rows == "texts" else {"chatTemplate": {"inline": builders.CHATML}}
        given = {"dataset": {"uri": f"file://{rows[case.rows]}"}, **template}
        spec["environment"] = given | spec.get("environment", {})
        if spec.get("method") == "distill":
            spec["distill"] = {"teacher": {"uri": f"file://{teacher}"}, "maxCompletionTokens": 4}
        config = builders.run(base, rows[case.rows], **spec)
        sources = {place: run(name) for place, name in (parent.split("=") for parent in case.parents)}
        config = config.replace(sources={place: source(parent) for place, parent in sources.items()})
        progress = Progress("double")
        report = training.train(config, Places(claims=claims), progress, Stop())
        return Run(case, config, report, progress, claims)

    return run


def source(parent: Run) -> Source:
    """A run as another names it."""
    artifact = parent.report.artifact
    return Source(run="judge", uri=f"file://{parent.folder}", digest=artifact.digest, kind=artifact.kind)


@pytest.mark.parametrize("name", CASES)
def test_everything_is_published(ran: Callable[[str], Run], name: str) -> None:
    run = ran(name)
    manifest, report = run.manifest, run.report
    assert (manifest.kind, report.artifact.kind) == (run.case.kind, run.case.kind)
    assert (manifest.digest, list(differences(run.folder, manifest.files))) == (report.artifact.digest, [])
    assert manifest.recipe_digest == digest_of(run.config.recipe.to_json())
    assert manifest.parents == sorted(source.digest for source in run.config.sources.values())
    assert bool(manifest.probes) is (run.case.kind != "dataset")
    assert [path.name for path in run.folder.parent.iterdir()] == [run.folder.name]
    written = json.loads((run.folder / "report.json").read_bytes())
    assert written["training"] == report.to_json()
    assert set(report.evaluation.after) == set(run.config.recipe.evaluation.metrics)
    assert None not in [*report.evaluation.before.values(), *report.evaluation.after.values()]
    has_steps = name not in ("bestOf", "merge")
    assert (report.steps_completed, report.steps_planned) == ((2, 2) if has_steps else (0, 0))
    assert run.progress.status.stage == "Done"


@pytest.mark.parametrize("name", CASES)
def test_what_the_card_says_loads_it(
    ran: Callable[[str], Run], base: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ran(name)
    card = (run.folder / "README.md").read_text()
    assert f"tags: [posttrain, {run.case.kind}, {run.config.recipe.method}]" in card
    assert all(source.digest in card for source in run.config.sources.values())
    code = card.rpartition("```python\n")[2].partition("```")[0]
    code = code.replace("this folder", str(run.folder)).replace("the base's folder", str(base))
    capsys.readouterr()
    exec(compile(code, f"the card of {name}", "exec"), {})  # noqa: S102 - it is our own card
    said = capsys.readouterr().out
    if run.case.kind == "reward-model":
        judge = reward_model.load(run.folder, "file:///judge", run.report.artifact.digest, "cpu")
        asked = [{"role": "user", "content": "Hello"}]
        assert float(said) == pytest.approx(judge.scores([(asked, "Hello! How can I help?")])[0], abs=1e-4)


def test_the_card_tells_of_gates_and_answers(ran: Callable[[str], Run]) -> None:
    run = ran("full")
    card = (run.folder / "README.md").read_text()
    measured = run.report.evaluation
    gained = measured.before["loss"] - measured.after["loss"]
    assert f"| loss | {measured.before['loss']:.4g} | {measured.after['loss']:.4g} |" in card
    assert f"| loss | max 100 | {measured.after['loss']:.4g} | yes |" in card
    assert f"| loss | minGain 90.5 | {gained:.4g} | no |" in card
    sample = json.loads((run.folder / "samples.jsonl").read_text().splitlines()[-1])
    assert (sample["kind"], sample["prompt"]) == ("samplePrompt", "Who made you?")
    assert "> Who made you?\n\nBefore:\n\n> " in card


def test_distill_stops_by_its_distance_from_the_teacher(ran: Callable[[str], Run]) -> None:
    run = ran("distill")
    best = json.loads((run.folder / "report.json").read_bytes())["earlyStopping"]
    assert best["bestValue"] == pytest.approx(run.report.evaluation.after["divergence"], rel=1e-5)
    assert [(named.name, named.digest) for named in run.report.checkpoints] == [("best", run.report.artifact.digest)]
    assert f"the weights of step {best['bestStep']} of 2, divergence" in (run.folder / "README.md").read_text()


@pytest.mark.parametrize("name", ["reward osft", "reward dora", "reward full"])
def test_a_reward_model_s_layers_and_head_were_trained(ran: Callable[[str], Run], base: Path, name: str) -> None:
    found, info = AutoModelForSequenceClassification.from_pretrained(ran(name).folder, output_loading_info=True)
    assert not info["missing_keys"], "the head is in the checkpoint"
    before = AutoModelForCausalLM.from_pretrained(base).model.layers[0].self_attn.q_proj.weight
    assert not torch.allclose(found.model.layers[0].self_attn.q_proj.weight, before, atol=1e-6)


def test_answers_are_scored_by_the_reward_model(ran: Callable[[str], Run]) -> None:
    run, judge = ran("judged by a reward model"), ran("reward full")
    scorer = reward_model.load(judge.folder, "file:///judge", judge.report.artifact.digest, "cpu")
    lines = [json.loads(line) for line in (run.folder / "samples.jsonl").read_text().splitlines()]
    for when in ("before", "after"):
        scores = scorer.scores([(line["messages"], line[when]) for line in lines])
        assert getattr(run.report.evaluation, when)["reward"] == pytest.approx(sum(scores) / len(scores), abs=1e-4)


def test_eva_says_what_its_start_explains(ran: Callable[[str], Run]) -> None:
    run = ran("eva")
    share = json.loads((run.folder / "report.json").read_bytes())["explainedVariance"]
    assert 4 / 32 < share <= 1, "more than as many directions at random"
    assert f"explains {share:.0%} of the variance" in (run.folder / "README.md").read_text()


def test_under_a_tuned_prompt_an_answer_is_what_follows_step_by_step(ran: Callable[[str], Run], base: Path) -> None:
    """Of prompts of different lengths in one batch, beside one forward pass a token without a cache."""
    chat = ChatFormat(tokenizers.load(base, "file:///base"), builders.CHATML)
    model = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), ran("prompt").folder).eval()
    prompts = [chat.question([{"role": "user", "content": text}]) for text in ("Hi", "Double 7, if you please", "?")]
    with torch.no_grad():
        found = answers.generated(model, chat, prompts, room=6, between=lambda: None)
        for prompt, answer in zip(prompts, found, strict=True):
            text = list(prompt)
            for _ in range(6):
                text.append(int(model(input_ids=torch.tensor([text]), use_cache=False).logits[0, -1].argmax()))
            expected = text[len(prompt) :]
            end = next((place for place, token in enumerate(expected) if token in chat.end_of_turn), 6)
            assert answer.token_ids == expected[:end]
