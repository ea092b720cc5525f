"""What `env init` writes: an environment that is as it should be, and can be changed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from posttrain_cli import documents, env_init, kustomization
from posttrain_cli.env_kind import Kind
from posttrain_cli.failure import Failure
from posttrain_cli.faults import faults

ALWAYS = """
def score(prompts, completions, *_, **__):
    return [1.0 for _ in completions]
"""
FILES = ["README.md", "data.jsonl", "kustomization.yaml", "rewards.py", "run.yaml", "test_rewards.py"]


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_is_a_whole_environment(tmp_path: Path, kind: Kind):
    folder = tmp_path / "sums"
    said = env_init.init("sums", kind, folder)
    assert said.splitlines()[-1] == f"next: kubectl posttrain env test -f {folder / 'run.yaml'}"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    first, second = documents.read([str(folder / "run.yaml")])
    assert [faults(first), faults(second)] == [[], []]
    assert (first.name, first.content["spec"]["method"]) == ("sums-sft", "sft")
    assert (second.name, second.content["spec"]["method"]) == ("sums", "grpo")
    assert second.content["spec"]["baseModel"] == {"fromRun": {"name": "sums-sft"}}
    # "changing method: sft to method: grpo is the whole difference"
    shared = {name: value for name, value in second.content["spec"]["environment"].items() if name != "rewards"}
    assert first.content["spec"]["environment"] == shared


@pytest.mark.parametrize("kind", Kind)
def test_the_test_that_is_written_passes_and_fails_where_the_reward_is_wrong(tmp_path: Path, kind: Kind):
    env_init.init("sums", kind, tmp_path / "sums")
    assert exit_code_of_pytest(tmp_path / "sums") == 0
    rewards = tmp_path / "sums" / "rewards.py"
    rewards.write_text(
        rewards.read_text() + "\n\ndef score(prompts, completions, **_):\n    return [1.0 for _ in completions]\n"
    )
    assert exit_code_of_pytest(tmp_path / "sums") == 1


def exit_code_of_pytest(folder: Path) -> int:
    """Exit code of pytest in a folder, as its owner runs it."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True).returncode


def test_kubectl_makes_the_same_config_maps_as_we_do(tmp_path: Path):
    env_init.init("sums", Kind.JSON, tmp_path)
    made = subprocess.run(["kubectl", "kustomize", tmp_path], capture_output=True, text=True, check=True).stdout
    objects = {found["kind"]: found for found in yaml.safe_load_all(made) if found["kind"] == "ConfigMap"}
    (ours,) = kustomization.config_maps([str(tmp_path / "run.yaml")])
    assert ours.content == {name: objects["ConfigMap"][name] for name in ("apiVersion", "kind", "metadata", "data")}
    assert set(ours.content["data"]) == {"data.jsonl", "rewards.py"}


def test_keys_paths_and_literals_are_those_of_kubectl(tmp_path: Path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.py").write_text("one")
    generator = {"name": "mine", "files": ["b.py=deep/a.py", "deep/a.py"], "literals": ["seed=4=2"]}
    made = {"configMapGenerator": [generator], "generatorOptions": {"disableNameSuffixHash": True}}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(made))
    theirs = subprocess.run(["kubectl", "kustomize", tmp_path], capture_output=True, text=True, check=True).stdout
    (ours,) = kustomization.config_maps([str(tmp_path / "x.yaml"), str(tmp_path / "y.yaml"), "-"])
    assert ours.content["data"] == yaml.safe_load(theirs)["data"] == {"b.py": "one", "a.py": "one", "seed": "4=2"}


def test_a_file_that_a_kustomization_names_and_is_not_there_is_told(tmp_path: Path):
    (tmp_path / "kustomization.yaml").write_text("configMapGenerator: [{name: mine, files: [rows.jsonl]}]")
    with pytest.raises(Failure, match=r"kustomization\.yaml: rows\.jsonl cannot be read: No such file or directory"):
        kustomization.config_maps([str(tmp_path / "run.yaml")])


def test_nothing_is_overwritten(tmp_path: Path):
    (tmp_path / "rewards.py").write_text("mine")
    with pytest.raises(Failure, match=r"rewards\.py is there already: nothing was written, name another folder"):
        env_init.init("sums", Kind.JSON, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["rewards.py"]
    assert (tmp_path / "rewards.py").read_text() == "mine"


@pytest.mark.parametrize("name", ["Sums", "sums-", "a" * 37, "../sums", ""], ids=repr)
def test_a_name_that_no_run_can_have_is_refused(tmp_path: Path, name: str):
    with pytest.raises(Failure, match="write a name of at most 36 small letters"):
        env_init.init(name, Kind.JSON, tmp_path / "new")
    assert not (tmp_path / "new").exists()
