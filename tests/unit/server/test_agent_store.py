"""Copies of artifacts: whole and true, or not at all. A table of broken ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.server.builders import BASE_DIGEST, OTHER_DIGEST, adapter, published

from posttrain_api.artifact import folder_name
from posttrain_api.conditions import Reason
from posttrain_server.agent.failure import ArtifactError
from posttrain_server.agent.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A pod's disk, and claims."""
    (tmp_path / "state").mkdir()
    return Store(tmp_path / "state", tmp_path / "claims")


@pytest.fixture
def claim(store: Store) -> Path:
    """The claim `artifacts`."""
    return store.claims_root / "artifacts"


def bring(store: Store, digest: str, *, base_digest: str = BASE_DIGEST, max_rank: int = 16):
    return store.bring(adapter(digest=digest), base_digest=base_digest, max_rank=max_rank)


def test_an_artifact_is_copied_under_its_digest_with_its_template(store: Store, claim: Path):
    made = published(claim, extra={"chat_template.jinja": b"TRAINED"})
    local = bring(store, made.digest)
    assert (local.folder, local.manifest, local.chat_template) == (
        store.folder / folder_name(made.digest), made, "TRAINED",
    )  # fmt: skip
    assert list(store.digests()) == [made.digest]


def test_a_copy_is_used_again_without_the_original(store: Store, claim: Path):
    made = published(claim)
    first = bring(store, made.digest)
    claim.rename(claim.with_name("away"))
    assert bring(store, made.digest) == first


def test_a_copy_whose_bytes_changed_is_thrown_away(store: Store, claim: Path):
    made = published(claim)
    weights = bring(store, made.digest).folder / "adapter_model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(b"other")
    with pytest.raises(ArtifactError, match=r"adapter_model\.safetensors has sha256"):
        bring(store, made.digest)
    assert bring(store, made.digest).manifest == made, "the next try copies it anew"


def test_what_an_interrupted_copy_left_is_cleared(store: Store):
    (store.folder / ".incoming-sha256-1").mkdir()
    store.clear_incomplete()
    assert list(store.folder.iterdir()) == []


def test_a_copy_is_forgotten(store: Store, claim: Path):
    made = published(claim)
    bring(store, made.digest)
    store.forget(made.digest)
    assert list(store.digests()) == []


def change(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def redirect(folder: Path) -> None:
    """The weights are a link to a file of the server."""
    weights = folder / "adapter_model.safetensors"
    weights.rename(folder.parent.parent / "elsewhere")
    weights.symlink_to(folder.parent.parent / "elsewhere")


@pytest.mark.parametrize(
    ("break_it", "reason", "message", "is_retried"),
    [
        pytest.param(
            lambda f: (f / "manifest.json").unlink(), Reason.ADAPTER_NOT_FOUND,
            "there is no manifest.json in pvc://artifacts/support", True, id="not complete yet",
        ),
        pytest.param(
            lambda f: f.rename(f.with_name("other")), Reason.ADAPTER_NOT_FOUND,
            "there is no manifest.json", True, id="no folder",
        ),
        pytest.param(
            lambda f: (f / "adapter_model.safetensors").write_bytes(b"x"), Reason.DIGEST_MISMATCH,
            "adapter_model.safetensors has sha256", False, id="other weights",
        ),
        pytest.param(
            lambda f: (f / "adapter_model.safetensors").unlink(), Reason.DIGEST_MISMATCH,
            "adapter_model.safetensors is missing", False, id="no weights",
        ),
        pytest.param(
            redirect, Reason.DIGEST_MISMATCH, "adapter_model.safetensors leads out of the artifact's folder", False,
            id="a link to elsewhere",
        ),
        pytest.param(
            lambda f: change(f, rank=4), Reason.DIGEST_MISMATCH, "manifest.json has digest", False,
            id="another manifest",
        ),
        pytest.param(
            lambda f: (f / "manifest.json").write_text("{"), Reason.DIGEST_MISMATCH,
            "manifest.json is no manifest of ours", False, id="no JSON",
        ),
        pytest.param(
            lambda f: change(f, kind="control-vector"), Reason.DIGEST_MISMATCH,
            "manifest.json is no manifest of ours: kind", False, id="another kind",
        ),
    ],
)  # fmt: skip
def test_an_artifact_that_is_not_what_is_wanted(
    store: Store, claim: Path, break_it: Callable[[Path], Any], reason: Reason, message: str, is_retried: bool
):
    made = published(claim)
    break_it(claim / "support")
    with pytest.raises(ArtifactError) as error:
        bring(store, made.digest)
    assert (error.value.reason, error.value.retry_seconds is not None) == (reason, is_retried)
    assert message in str(error.value)
    assert list(store.digests()) == [], "nothing of it stays"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"files": {"../key": {"sha256": "0" * 64, "bytes": 1}}}, "../key leads out", id="a file above"),
        pytest.param({"files": {"/etc/passwd": {"sha256": "0" * 64, "bytes": 1}}}, "leads out", id="a file elsewhere"),
        pytest.param({"weightsDigest": OTHER_DIGEST}, "weightsDigest is not that", id="another weightsDigest"),
    ],
)
def test_a_manifest_that_lies_under_its_own_digest(store: Store, claim: Path, changes: dict[str, Any], message: str):
    made = published(claim)
    change(claim / "support", **changes)
    lying = type(made).model_validate_json((claim / "support" / "manifest.json").read_bytes())
    with pytest.raises(ArtifactError, match=message) as error:
        bring(store, lying.digest)
    assert error.value.reason == Reason.DIGEST_MISMATCH


UNSUPPORTED = Reason.UNSUPPORTED_ADAPTER


@pytest.mark.parametrize(
    ("config", "reason", "message"),
    [
        pytest.param({"use_dora": True}, UNSUPPORTED, "DoRA", id="DoRA"),
        pytest.param({"modules_to_save": ["lm_head"]}, UNSUPPORTED, "modules_to_save", id="whole layers"),
        pytest.param({"bias": "lora_only"}, UNSUPPORTED, "bias=lora_only", id="bias"),
        pytest.param({"lora_bias": True}, UNSUPPORTED, "a LoRA bias", id="LoRA bias"),
        pytest.param({"alora_invocation_tokens": [1]}, UNSUPPORTED, "aLoRA", id="aLoRA"),
        pytest.param({"layer_replication": [[0, 1]]}, UNSUPPORTED, "layer replication", id="layer replication"),
        pytest.param({"trainable_token_indices": [1]}, UNSUPPORTED, "token embeddings", id="token embeddings"),
        pytest.param({"init_lora_weights": "pissa_niter_4"}, UNSUPPORTED, "init pissa_niter_4", id="PiSSA"),
        pytest.param({"init_lora_weights": "olora"}, UNSUPPORTED, "init olora", id="OLoRA"),
        pytest.param({"init_lora_weights": "loftq"}, UNSUPPORTED, "init loftq", id="LoftQ"),
        pytest.param({"init_lora_weights": "corda"}, UNSUPPORTED, "init corda", id="CorDA"),
        pytest.param({"peft_type": "PROMPT_TUNING"}, UNSUPPORTED, "not that of a PEFT LoRA", id="prompt tuning"),
        pytest.param({"r": 0}, UNSUPPORTED, "no valid rank", id="no rank"),
        pytest.param({"r": 32}, Reason.RANK_TOO_LARGE, "rank 32, the engine takes 16", id="rank"),
        pytest.param({"rank_pattern": {"q_proj": 64}}, Reason.RANK_TOO_LARGE, "rank 64", id="rank of one module"),
    ],
)
def test_adapters_that_vllm_cannot_serve(
    store: Store, claim: Path, config: dict[str, Any], reason: Reason, message: str
):
    made = published(claim, config=config)
    with pytest.raises(ArtifactError, match=message) as error:
        bring(store, made.digest)
    assert (error.value.reason, error.value.retry_seconds) == (reason, None)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param({"use_rslora": True}, id="rank-stabilised"),
        pytest.param({"init_lora_weights": "gaussian"}, id="gaussian"),
        pytest.param({"init_lora_weights": "eva", "rank_pattern": {"q_proj": 16}}, id="EVA with ranks of its own"),
        pytest.param({"modules_to_save": None, "bias": "none", "use_dora": False}, id="said to be off"),
    ],
)
def test_adapters_that_vllm_can_serve(store: Store, claim: Path, config: dict[str, Any]):
    assert bring(store, published(claim, config=config).digest).manifest.rank == 8


def test_a_pickle_in_the_payload_is_refused(store: Store, claim: Path):
    made = published(claim, extra={"adapter_model.bin": b"pickle"})
    with pytest.raises(ArtifactError, match=r"adapter_model\.bin is no safetensors file") as error:
        bring(store, made.digest)
    assert error.value.reason == UNSUPPORTED


def test_weights_that_are_no_safetensors_are_refused(store: Store, claim: Path):
    made = published(claim, extra={"adapter_model.safetensors": b"\x80\x04pickled"})
    with pytest.raises(ArtifactError, match="is no safetensors file") as error:
        bring(store, made.digest)
    assert error.value.reason == UNSUPPORTED


def test_an_adapter_of_another_base_names_both(store: Store, claim: Path):
    made = published(claim)
    with pytest.raises(ArtifactError, match=r"sha256:bbbbbbbbbbbb .*sha256:222222222222") as error:
        bring(store, made.digest, base_digest=OTHER_DIGEST)
    assert error.value.reason == Reason.BASE_MISMATCH


def test_a_location_that_is_none_is_not_found(store: Store):
    with pytest.raises(ArtifactError, match="use pvc://claim/path") as error:
        store.bring(adapter(uri="s3://x"), base_digest=BASE_DIGEST, max_rank=16)
    assert error.value.reason == Reason.ADAPTER_NOT_FOUND


@pytest.mark.parametrize("kind", ["model", "reward-model", "prompt", "dataset"])
def test_only_an_adapter_is_loaded(store: Store, claim: Path, kind: str):
    made = published(claim, kind=kind)
    with pytest.raises(ArtifactError, match=f"of kind {kind}: only one of kind lora") as error:
        bring(store, made.digest)
    assert error.value.reason == Reason.UNSUPPORTED_ADAPTER
