"""Which settings a method can use: refused by the API server in CEL, and by our models in the same words."""

from typing import Any

import pytest
from pydantic import ValidationError
from tests.api_server.test_validation import RUN, dry_run
from tests.live import Namespace

from posttrain_api.v1alpha1.training_run import TrainingRunSpec

FROM_RUN = {"baseModel": {"fromRun": {"name": "before"}}}
GATE = {"gates": [{"metric": "exactMatch", "min": 0.5}]}
RETENTION_GATE = {"gates": [{"metric": "retention.loss", "maxRegression": 0.1}]}
STOPPING = {"earlyStopping": {"metric": "exactMatch"}}
RUNS = [{"name": "one"}, {"name": "two"}]
ROWS = {"uri": "pvc://data/train.jsonl"}
PACKAGE = {"package": "reasoning-gym:leg_counting"}
PYTHON = {"configMap": {"name": "code"}, "entrypoint": "rewards:score"}


def environment(*rewards: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An environment with these rewards."""
    return {"environment": {"dataset": ROWS, "rewards": list(rewards), **more}}


EXACT = environment({"builtin": "exact"})
GRPO = {"method": "grpo", **FROM_RUN, **EXACT}
RLOO = {**GRPO, "method": "rloo"}
PPO = {**GRPO, "method": "ppo"}
SERVER = {"rollout": {"mode": "server"}}


def run(**spec: Any) -> dict[str, Any]:
    """The manifest of a run with these fields of the spec."""
    return {**RUN, "spec": {**RUN["spec"], **spec}}


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(
            {"method": "dpo", **FROM_RUN, "dpo": {"loss": ["sigmoid", "sft"], "lossWeights": [1, 1]}}, id="dpo"
        ),
        pytest.param({"method": "dpo", "allowUntunedBase": True}, id="dpo of an untuned base that is allowed"),
        pytest.param({"method": "kto", "baseModel": {"uri": "pvc://a/b", "tuned": True}}, id="kto of a tuned base"),
        pytest.param({"method": "orpo"}, id="orpo of an untuned base"),
        pytest.param({"method": "reward", "tuning": {"full": {}}}, id="a whole reward model"),
        pytest.param({"method": "distill", "distill": {"teacher": {"uri": "pvc://a/b"}}}, id="distill"),
        pytest.param({"method": "merge", "merge": {"runs": RUNS}}, id="merge"),
        pytest.param({"tuning": {"osft": {"unfreezeRankRatio": 0.5}}}, id="osft"),
        pytest.param({"evaluation": {"metrics": ["loss", "exactMatch"], **GATE, **STOPPING}}, id="a gate"),
        pytest.param(
            {"evaluation": {**RETENTION_GATE, "retention": {"dataset": {"uri": "pvc://a/b"}}}}, id="a gate on retention"
        ),
        pytest.param(
            {"evaluation": {"metrics": ["lm-eval:arc_easy"], "lmEval": {"configMap": {"name": "tasks"}}}}, id="lm-eval"
        ),
        pytest.param(GRPO, id="grpo"),
        pytest.param({**RLOO, "rloo": {"groupSize": 4, **SERVER}}, id="rloo by a server"),
        pytest.param({**PPO, "ppo": {"klTarget": 0.1}, "health": {"klDrift": "Stop"}}, id="ppo that is watched"),
        pytest.param(
            {**GRPO, "grpo": {"groupSize": 6}, "hyperparameters": {"effectiveBatchSize": 12}}, id="whole groups"
        ),
        pytest.param(
            {
                **GRPO,
                **environment(
                    {"builtin": "regex", "pattern": "[0-9]+", "weight": 0.1},
                    {"builtin": "json_schema", "jsonSchema": {"type": "object", "required": ["answer"]}},
                    {"python": {**PYTHON, "network": True}},
                    {"http": {"url": "http://judge/score", "token": {"name": "judge", "key": "token"}}},
                    {"builtin": "exact", "role": "success"},
                    tools={"uri": "pvc://code/tools", "entrypoint": "tools:Calculator"},
                ),
                "evaluation": {"metrics": ["reward", "success"], "gates": [{"metric": "success", "minGain": 0.1}]},
            },
            id="every kind of reward",
        ),
        pytest.param(
            {**GRPO, "environment": {"dataset": {**PACKAGE, "packageOptions": {"seed": 3, "animals": ["ant"]}}}},
            id="a package that scores its own rows",
        ),
        pytest.param(environment(), id="sft of an environment without rewards"),
        pytest.param(EXACT, id="sft of an environment with rewards"),
    ],
)
def test_what_fits_is_accepted(namespace: Namespace, spec: dict[str, Any]):
    assert dry_run(namespace, run(**spec)) == ""


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        pytest.param({"method": "dpo"}, "need a base that follows instructions", id="an untuned base"),
        pytest.param({"dpo": {}}, "dpo is the block of method dpo", id="another method's block"),
        pytest.param({"method": "distill"}, "write distill.teacher.uri or .fromRun", id="no teacher"),
        pytest.param(
            {"method": "distill", "distill": {"teacher": {}}}, "give exactly one of uri, fromRun", id="an empty teacher"
        ),
        pytest.param({"method": "merge"}, "write merge.runs", id="nothing to merge"),
        pytest.param(
            {"method": "merge", "merge": {"runs": RUNS, "combination": "ties"}}, "give merge.rank", id="ties, no rank"
        ),
        pytest.param({"baseModel": {}}, "give exactly one of uri, fromRun", id="no base"),
        pytest.param(
            {"baseModel": {"uri": "pvc://a/b", "fromRun": {"name": "r"}}},
            "give exactly one of uri, fromRun",
            id="two bases",
        ),
        pytest.param({"tuning": {"lora": {}, "full": {}}}, "give at most one of lora, full", id="two tunings"),
        pytest.param(
            {"tuning": {"lora": {"quantization": "nf4"}}, "resources": {"gpus": 0}},
            "nf4 needs a GPU",
            id="nf4 on a CPU",
        ),
        pytest.param(
            {"tuning": {"lora": {"dora": True, "init": "pissa"}}}, "lora.dora has its own start", id="dora and pissa"
        ),
        pytest.param(
            {"method": "dpo", **FROM_RUN, "tuning": {"lora": {"init": "olora"}}},
            "olora and pissa change the base",
            id="a reference that moves",
        ),
        pytest.param(
            {"method": "orpo", "tuning": {"promptTuning": {}}}, "tuning.promptTuning works with sft only", id="prompts"
        ),
        pytest.param(
            {"method": "merge", "merge": {"runs": RUNS}, "tuning": {"lora": {}}}, "train nothing", id="merge and tuning"
        ),
        pytest.param(
            {"method": "orpo", "hyperparameters": {"packing": True}}, "packing works with sft only", id="packing"
        ),
        pytest.param(
            {"hyperparameters": {"packing": True}, "resources": {"gpus": 0}},
            "needs flash attention",
            id="packing without a GPU",
        ),
        pytest.param(
            {
                "hyperparameters": {"packing": True},
                "tuning": {"promptTuning": {}},
            },
            "puts its tokens before each sequence",
            id="packing and prompt tuning",
        ),
        pytest.param(
            {"hyperparameters": {"maxTokensPerGpu": 100}}, "must hold one row", id="a micro-batch below one row"
        ),
        pytest.param(
            {
                "method": "dpo",
                **FROM_RUN,
                "dpo": {"loss": ["sigmoid", "aot"]},
                "hyperparameters": {"maxTokensPerGpu": 4096},
            },
            "sort the rows of a step, so it cannot be split",
            id="a loss that needs the whole step",
        ),
        pytest.param(
            {"method": "kto", **FROM_RUN, "hyperparameters": {"effectiveBatchSize": 1}},
            "at least 2",
            id="kto, one row at once",
        ),
        pytest.param({"method": "bestOf"}, "write environment.rewards", id="nothing to choose by"),
        pytest.param(
            {"evaluation": {"metrics": ["loss"], **GATE}}, "a metric that is not measured", id="a gate on nothing"
        ),
        pytest.param({"evaluation": GATE}, "evaluation.metrics left out means", id="a gate beside the default"),
        pytest.param({"evaluation": RETENTION_GATE}, "needs evaluation.retention.dataset", id="nothing to retain"),
        pytest.param({"evaluation": {"metrics": ["lm-eval:a"]}}, "needs evaluation.lmEval", id="a task from nowhere"),
        pytest.param({"evaluation": {"metrics": ["preferenceAccuracy"]}}, "can be judged by", id="a metric of pairs"),
        pytest.param(
            {"evaluation": {"gates": [{"metric": "loss", "min": 0, "max": 1}]}},
            "give exactly one of min",
            id="two bounds",
        ),
        pytest.param(
            {"evaluation": {"onFailure": {"patch": {"dpo": {"beta": 1.0}}}}}, "is for method dpo", id="a foreign patch"
        ),
        pytest.param({"method": "grpo", **EXACT}, "grpo, rloo and ppo need a base", id="grpo of an untuned base"),
        pytest.param({**PPO, **environment()}, "learn from scores", id="nothing to learn from"),
        pytest.param(
            {**GRPO, **environment({"builtin": "exact", "role": "success"})}, "one of role reward", id="only measured"
        ),
        pytest.param({**GRPO, **environment({"builtin": "regex"})}, "builtin regex needs pattern", id="no pattern"),
        pytest.param(
            {**GRPO, **environment({"builtin": "exact", "pattern": "a"})},
            "pattern is for builtin regex: remove it",
            id="a pattern for nothing",
        ),
        pytest.param(
            {**GRPO, **environment({"builtin": "exact", "jsonSchema": {"type": "object"}})},
            "jsonSchema is for builtin json_schema: remove it",
            id="a schema for nothing",
        ),
        pytest.param(
            {**GRPO, **environment({"builtin": "length"})}, "builtin length needs maxCharacters", id="what length"
        ),
        pytest.param(
            {**GRPO, **environment({"python": PYTHON, "maxCharacters": 9})},
            "maxCharacters is for builtin length: remove it",
            id="a length for nothing",
        ),
        pytest.param(
            {**GRPO, **environment({"builtin": "exact", "python": PYTHON})},
            "give exactly one of builtin, python, model, http",
            id="two rewards in one",
        ),
        pytest.param({**GRPO, **environment({"weight": 2})}, "give exactly one of builtin, python", id="no reward"),
        pytest.param(
            {**GRPO, **environment({"python": {**PYTHON, "uri": "pvc://code/a"}})},
            "give exactly one of configMap, uri",
            id="code in two places",
        ),
        pytest.param(
            {**GRPO, **environment({"python": {"uri": "pvc://code/", "entrypoint": "rewards:score"}})},
            "code gets to see its own folder of a claim only",
            id="a whole claim for a reward",
        ),
        pytest.param(
            {**GRPO, **environment({"builtin": "exact"}, tools={"uri": "pvc://code", "entrypoint": "tools:Tools"})},
            "code gets to see its own folder of a claim only",
            id="a whole claim for tools",
        ),
        pytest.param(
            {**GRPO, **environment({"builtin": "verifier"})}, "name a package, or another", id="no package verifies"
        ),
        pytest.param(
            environment(tools={"configMap": {"name": "code"}, "entrypoint": "tools:Tools"}),
            "environment.tools works with grpo only",
            id="tools with sft",
        ),
        pytest.param({"health": {"klDrift": "Stop"}}, "health watches grpo, rloo and ppo", id="health of sft"),
        pytest.param({**PPO, "tuning": {"promptTuning": {}}}, "works with sft only", id="ppo of a prompt"),
        pytest.param({**RLOO, "tuning": {"osft": {}}}, "work with tuning.lora and tuning.full", id="rloo with osft"),
        pytest.param({**GRPO, "grpo": {"groupSize": 7}}, "a multiple of grpo.groupSize", id="half a group by default"),
        pytest.param(
            {**GRPO, "hyperparameters": {"effectiveBatchSize": 4}},
            "a multiple of grpo.groupSize, 8 where it is left out",
            id="half a group of the usual size",
        ),
        pytest.param(
            {**RLOO, "rloo": {"groupSize": 8}, "hyperparameters": {"effectiveBatchSize": 12}},
            "a multiple of rloo.groupSize",
            id="half a group",
        ),
        pytest.param(
            {**GRPO, "grpo": SERVER, "tuning": {"full": {}}}, "gets an adapter for each step", id="a server, no adapter"
        ),
        pytest.param(
            {**RLOO, "rloo": SERVER, "tuning": {"lora": {"dora": True}}},
            "gets an adapter for each step",
            id="an adapter that no server loads",
        ),
        pytest.param({**PPO, "ppo": SERVER}, "is not there for ppo", id="ppo by a server"),
        pytest.param(
            {**PPO, "ppo": {"klTarget": 1, "beta": 0}}, "changes ppo.beta, which is 0", id="a target of nothing"
        ),
        pytest.param(
            {"environment": {"dataset": {**ROWS, "packageOptions": {"seed": 1}}}},
            "packageOptions are for dataset.package",
            id="options of no package",
        ),
        pytest.param(
            {"environment": {"dataset": {**ROWS, **PACKAGE}}},
            "give exactly one of uri, configMap, fromRun, package",
            id="rows from two places",
        ),
        pytest.param(
            {**GRPO, "evaluation": {"metrics": ["reward", "success"]}},
            "the metric success needs one of environment.rewards with role success",
            id="no measure of success",
        ),
        pytest.param(
            {**GRPO, "evaluation": {"onFailure": {"patch": {"ppo": {"gamma": 0.9}}}}},
            "is for method ppo",
            id="another method's patch",
        ),
    ],
)
def test_what_does_not_fit_is_refused_twice_in_the_same_words(namespace: Namespace, spec: dict[str, Any], said: str):
    assert said in dry_run(namespace, run(**spec))
    with pytest.raises(ValidationError) as refused:
        TrainingRunSpec.model_validate(run(**spec)["spec"])
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        pytest.param({"hyperparameters": {"learningRate": 5}}, "learningRate", id="out of bounds"),
        pytest.param({"hyperparameters": {"learningrate": 0.1}}, "learningrate", id="unknown field"),
        pytest.param({"grpo": {"groupSize": 1}}, "groupSize", id="a group of one"),
        pytest.param({"ppo": {"gaelambda": 1}}, "gaelambda", id="unknown field of a method"),
    ],
)
def test_a_patch_is_typed_like_what_it_patches(namespace: Namespace, patch: dict[str, Any], said: str):
    retrain = {"onFailure": {"action": "Retrain", "patch": patch}}
    assert said in dry_run(namespace, run(evaluation=retrain))
    with pytest.raises(ValidationError):
        TrainingRunSpec.model_validate(run(evaluation=retrain)["spec"])


def test_a_run_cannot_come_before_itself(namespace: Namespace):
    own = {"baseModel": {"fromRun": {"name": RUN["metadata"]["name"]}}}
    assert "baseModel.fromRun names the run itself" in dry_run(namespace, run(**own))
