"""The manifests of examples/: valid for the API, and fitting each other."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from examples.demo import data, tasks
from transformers.utils.chat_template_utils import render_jinja_template

from posttrain_api.v1alpha1 import API_VERSION
from posttrain_api.v1alpha1.adapter_deployment import AdapterDeployment
from posttrain_api.v1alpha1.training_run import TrainingRun

EXAMPLES = Path(__file__).parents[3] / "examples"
KINDS = {"TrainingRun": TrainingRun, "AdapterDeployment": AdapterDeployment}
Object = dict[str, Any]


def manifests() -> list[Object]:
    """Every manifest of ours of every file."""
    return [found for found in documents() if found["kind"] in KINDS]


def documents() -> list[Object]:
    """Every document of every file."""
    return [found for path in sorted(EXAMPLES.glob("*.yaml")) for found in yaml.safe_load_all(path.read_text())]


def spec(kind: str, name: str) -> Any:
    """The parsed spec of one example."""
    (found,) = (item for item in manifests() if (item["kind"], item["metadata"]["name"]) == (kind, name))
    metadata = {"namespace": "default", "uid": "1", **found["metadata"]}
    return KINDS[kind].model_validate({"metadata": metadata, "spec": found["spec"]}).spec


def rendered(template: str, *, add_generation_prompt: bool) -> str:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    texts, _ = render_jinja_template([messages], chat_template=template, add_generation_prompt=add_generation_prompt)
    return texts[0]


@pytest.mark.parametrize("item", manifests(), ids=lambda item: f"{item['kind']}-{item['metadata']['name']}")
def test_an_example_is_valid_and_says_nothing_that_is_not_in_the_api(item: Object):
    assert set(item) == {"apiVersion", "kind", "metadata", "spec"}
    assert item["apiVersion"] == API_VERSION
    assert spec(item["kind"], item["metadata"]["name"])


def test_what_rewards_name_is_in_the_file_beside_them():
    code = {item["metadata"]["name"]: item["data"] for item in documents() if item["kind"] == "ConfigMap"}
    rewards = [reward for item in manifests() for reward in item["spec"].get("environment", {}).get("rewards", [])]
    named = [reward["python"] for reward in rewards if "python" in reward]
    assert named
    for python in named:
        module, function = python["entrypoint"].split(":")
        assert f"def {function}(" in code[python["configMap"]["name"]][f"{module}.py"]


@pytest.mark.parametrize("task", tasks.TASKS, ids=lambda task: task.name)
def test_a_task_has_a_run_that_is_judged_on_its_held_out_rows(task: tasks.Task):
    run = spec("TrainingRun", task.name)
    training, held_out = run.environment.dataset, run.evaluation.dataset
    places = {
        tasks.TRAIN_FILE: (training.uri or training.config_map.key),
        tasks.HELD_OUT_FILE: (held_out.uri or held_out.config_map.key),
    }
    assert all(place.endswith(name) for name, place in places.items())
    assert run.evaluation.metrics == ["loss", "tokenAccuracy", "exactMatch"]
    assert run.resources.gpus == 0


def test_the_data_lies_where_the_demo_puts_it():
    assert spec("TrainingRun", "dates").environment.dataset.config_map.name == "dates"
    assert spec("TrainingRun", "numbers").environment.dataset.uri == f"pvc://{data.CLAIM}/numbers/{tasks.TRAIN_FILE}"


def test_the_deployment_serves_both_runs_on_their_base():
    deployment = spec("AdapterDeployment", "assistants")
    runs = {task.name: spec("TrainingRun", task.name) for task in tasks.TASKS}
    assert {adapter.name: adapter.from_run.name for adapter in deployment.adapters} == {name: name for name in runs}
    assert {run.base_model.uri for run in runs.values()} == {deployment.base_model.uri}
    assert deployment.engine.max_rank >= max(run.tuning.lora.rank for run in runs.values())


@pytest.mark.parametrize("ends_with_a_question", [True, False], ids=["a question", "a whole conversation"])
def test_all_templates_write_the_same(ends_with_a_question: bool):
    dates, numbers = (spec("TrainingRun", name).environment.chat_template.inline for name in ("dates", "numbers"))
    served = spec("AdapterDeployment", "assistants").engine.chat_template.inline
    expected = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
    expected += "<|im_start|>assistant\n" if ends_with_a_question else ""
    for template in (dates, numbers, served):
        assert rendered(template, add_generation_prompt=ends_with_a_question) == expected


def test_the_loss_counts_the_answer_and_its_end():
    template = spec("TrainingRun", "dates").environment.chat_template.inline
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    texts, spans = render_jinja_template([messages], chat_template=template, return_assistant_tokens_mask=True)
    assert [texts[0][start:end] for start, end in spans[0]] == ["b<|im_end|>"]
