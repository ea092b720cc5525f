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
