"""Publication: all at once or not at all; and adapters that were made elsewhere."""

import json
import shutil
from pathlib import Path

import peft
import pytest
import torch
from tests.unit.trainer import builders
from transformers import AutoModelForCausalLM

from posttrain_api.artifact import (
    BaseReference,
    FileEntry,
    Manifest,
    Probe,
    base_digest,
    differences,
    files_digest,
    folder_name,
    payload,
)
from posttrain_trainer import adopt, export

DIGEST = "sha256:" + 64 * "b"


def written(folder: Path) -> Manifest:
    """A small artifact, written as a training would."""
    (folder / "weights").write_text("weights")
    (folder / "report.json").write_text("{}")
    files: dict[str, FileEntry] = payload(folder)
    return Manifest(
        kind="lora",
        method="sft",
        base=BaseReference(uri="pvc://models/base", digest=DIGEST),
        rank=4,
        target_modules=["q_proj"],
        files=files,
        weights_digest=files_digest(files),
        end_of_turn_token_ids=[1],
        dtype="float32",
        probes=[Probe(token_ids=[1, 2], base=[-1.0], result=[-0.5])],
    )


def publish(parent: Path) -> Path:
    found = export.publish(parent, "pvc://out/double", "uid-0", written)
    assert found.uri == f"pvc://out/double/{folder_name(found.digest)}"
    return parent / folder_name(found.digest)


def test_an_artifact_appears_under_its_digest_and_nothing_else_does(tmp_path: Path) -> None:
    folder = publish(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "report.json", "weights"]
    assert {oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == {"0o644"}


def test_a_failure_before_the_rename_leaves_nothing(tmp_path: Path) -> None:
    def failing(folder: Path) -> Manifest:
        written(folder)
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        export.publish(tmp_path, "pvc://out/double", "uid-0", failing)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    left = tmp_path / ".unpublished-uid-0"
    left.mkdir()
    (left / "half").write_text("of a file")
    assert [path.name for path in tmp_path.iterdir()] == [".unpublished-uid-0"]
    assert sorted(path.name for path in publish(tmp_path).iterdir()) == ["manifest.json", "report.json", "weights"]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_complete_artifact_is_kept(tmp_path: Path) -> None:
    folder = publish(tmp_path)
    (folder / "report.json").write_text('{"first": true}')
    publish(tmp_path)
    assert (folder / "report.json").read_text() == '{"first": true}'


@pytest.mark.parametrize("name", ["weights", "manifest.json"])
def test_a_damaged_artifact_is_replaced(tmp_path: Path, name: str) -> None:
    folder = publish(tmp_path)
    (folder / name).write_text("swapped")
    publish(tmp_path)
    manifest = Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    assert list(differences(folder, manifest.files)) == []
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    """A folder as plain PEFT saves it, with an effect."""
    torch.manual_seed(1)
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=8, target_modules=["v_proj", "q_proj"], init_lora_weights=False)
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.fixture
def chat_template(tmp_path: Path) -> Path:
    path = tmp_path / "mine.jinja"
    path.write_text(builders.CHATML)
    return path


def run(adapter: Path, base: Path, *options: str) -> int:
    return adopt.main(["--adopt", str(adapter), "--base", f"file://{base}", *options])


def test_an_adapter_made_elsewhere_gets_a_manifest(
    adapter: Path, base: Path, chat_template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (adapter / "training_args.bin").write_text("a pickle")
    copy = tmp_path / "copies" / "adapter"
    assert run(adapter, base, "--into", str(copy), "--chat-template", str(chat_template)) == 0
    manifest = Manifest.model_validate_json((copy / "manifest.json").read_bytes())
    assert capsys.readouterr().out.splitlines()[-1] == manifest.digest
    assert (manifest.method, manifest.rank, manifest.target_modules) == ("adopted", 8, ["q_proj", "v_proj"])
    assert manifest.base == BaseReference(uri=f"file://{base}", digest=base_digest(base))
    assert manifest.recipe_digest is None
    assert sorted(manifest.files) == ["adapter_config.json", "adapter_model.safetensors", "chat_template.jinja"]
    assert list(differences(copy, manifest.files)) == []
    assert not (adapter / "manifest.json").exists()


def test_an_adapter_is_adopted_in_place(adapter: Path, base: Path, chat_template: Path) -> None:
    assert run(adapter, base, "--chat-template", str(chat_template)) == 0
    assert (adapter / "manifest.json").is_file()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        pytest.param("optimizer.pt", "x", "optimizer.pt does not belong to an adapter: write a", id="a pickle"),
        pytest.param("adapter_model.safetensors", None, "adapter_model.safetensors is missing", id="no weights"),
        pytest.param("adapter_config.json", '{"peft_type": "IA3"}', "only LORA is known", id="another kind"),
    ],
)
def test_what_is_no_lora_adapter_is_refused(
    adapter: Path, base: Path, file: str, content: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is None:
        (adapter / file).unlink()
    else:
        (adapter / file).write_text(content)
    assert run(adapter, base) == 1
    assert message in capsys.readouterr().err


def test_an_adapter_without_effect_is_refused(
    adapter: Path, base: Path, chat_template: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import safetensors.torch

    weights = safetensors.torch.load_file(adapter / "adapter_model.safetensors")
    zero = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    safetensors.torch.save_file(zero, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    assert run(adapter, base, "--chat-template", str(chat_template)) == 1
    assert "the result answers like its base" in capsys.readouterr().err


def test_an_adapter_of_another_base_is_refused(
    adapter: Path, base: Path, chat_template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(base, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"num_key_value_heads": 1, "head_dim": 64}))
    assert run(adapter, other, "--chat-template", str(chat_template)) == 1
    assert "other" in capsys.readouterr().err
