"""Artifacts: every byte and every claim is under the digest."""

from pathlib import Path
from typing import Any

import pytest

from posttrain_api import artifact
from posttrain_api.artifact import digest_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "report.json").write_text('{"at": "some time"}')
    return tmp_path


def manifest(folder: Path, **changes: Any) -> artifact.Manifest:
    files = artifact.payload(folder)
    base = artifact.BaseReference(uri="file:///base", digest="sha256:" + "0" * 64)
    made = artifact.Manifest(
        kind="lora",
        method="sft",
        base=base,
        rank=8,
        target_modules=["q_proj"],
        files=files,
        weights_digest=artifact.files_digest(files),
        end_of_turn_token_ids=[2],
        dtype="float32",
        probes=[artifact.Probe(token_ids=[1, 2], base=[-1.0], result=[-0.5])],
    )
    return made.replace(**changes)


def test_the_report_beside_the_proof_does_not_change_the_digest(folder: Path):
    before = manifest(folder).digest
    (folder / "report.json").write_text('{"at": "another time"}')
    assert manifest(folder).digest == before


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"rank": 16}, id="rank"),
        pytest.param({"base": artifact.BaseReference(uri="x", digest="sha256:" + "1" * 64)}, id="base"),
        pytest.param({"probes": [artifact.Probe(token_ids=[1, 2], base=[-1.0], result=[-0.4])]}, id="reference"),
        pytest.param({"end_of_turn_token_ids": [3]}, id="end of turn"),
    ],
)
def test_nothing_can_be_swapped_under_the_digest(folder: Path, changes: dict[str, Any]):
    assert manifest(folder, **changes).digest != manifest(folder).digest


def test_the_digest_survives_being_written_and_read(folder: Path):
    made = manifest(folder)
    read = artifact.Manifest.model_validate_json(artifact.canonical_json(made.to_json()))
    assert read.digest == made.digest


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        pytest.param("adapter_model.safetensors", b"other", "adapter_model.safetensors has sha256", id="swapped bytes"),
        pytest.param("adapter_config.json", None, "adapter_config.json is missing", id="a file removed"),
        pytest.param("sub/extra.bin", b"", "sub/extra.bin is not named in the manifest", id="a file added"),
        pytest.param("README.md", b"hello", None, id="a model card is no payload"),
    ],
)
def test_every_difference_is_named(folder: Path, name: str, content: bytes | None, said: str | None):
    files = artifact.payload(folder)
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.unlink() if content is None else path.write_bytes(content)
    found = list(artifact.differences(folder, files))
    assert [sentence.startswith(said) for sentence in found] == [True] if said else found == []


def test_a_base_is_its_weights_configuration_and_tokenizer(folder: Path):
    with pytest.raises(ValueError, match=r"config\.json and \*\.safetensors are needed"):
        artifact.base_digest(folder)
    (folder / "config.json").write_text("{}")
    digest = artifact.base_digest(folder)
    (folder / "generation_config.json").write_text("{}")
    assert artifact.base_digest(folder) == digest
    (folder / "tokenizer.json").write_text("{}")
    assert artifact.base_digest(folder) != digest


def test_a_number_has_one_digest_however_the_api_server_writes_it():
    assert digest_of({"epochs": 1.0, "rates": [2.0, 0.5]}) == digest_of({"epochs": 1, "rates": [2, 0.5]})
    assert digest_of({"epochs": 1.5}) != digest_of({"epochs": 1})
