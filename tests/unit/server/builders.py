"""Builders for the server's tests: a gateway with a client, tables, manifests and artifacts on disk."""

import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from tests.unit.server.engine_stand_in import Engine

from posttrain_api import artifact
from posttrain_api.artifact import BaseReference, Kind, Manifest, Probe
from posttrain_api.server_contract import DesiredAdapter, Runner
from posttrain_server.agent.store import LocalArtifact
from posttrain_server.agent.world import EngineView, World
from posttrain_server.exchange import KEY_HEADER, ROUTES_PATH, GatewayState, Route, RouteTable, engine_name
from posttrain_server.gateway.app import Gateway, GatewaySettings

KEY = "ab" * 32
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
DIGEST = "sha256:" + "1" * 64
OTHER_DIGEST = "sha256:" + "2" * 64
BASE_DIGEST = "sha256:" + "b" * 64


class GatewayClient(httpx.AsyncClient):
    """A client that also holds the gateway."""

    gateway: Gateway

    async def put_table(self, table: RouteTable) -> httpx.Response:
        """Give the gateway its table, as the agent does."""
        return await self.put(ROUTES_PATH, json=table.to_json(), headers={KEY_HEADER: KEY})


@asynccontextmanager
async def gateway_client(
    engine: Engine,
    *,
    table: RouteTable | None = None,
    max_body_bytes: int = 10_000,
    runner: Runner = "generate",
) -> AsyncIterator[GatewayClient]:
    """A client of a gateway before this engine."""
    gateway = Gateway(engine.app(), settings=GatewaySettings(KEY, "float32", max_body_bytes, runner))
    async with GatewayClient(transport=httpx.ASGITransport(app=gateway), base_url="http://server") as client:
        client.gateway = gateway
        if table is not None:
            await client.put_table(table)
        yield client


def route(**changes: Any) -> Route:
    """A proven version."""
    return Route(digest=DIGEST, proven_at=NOW).replace(**changes)


def adapter(name: str = "support", digest: str = DIGEST, uri: str = "pvc://artifacts/support") -> DesiredAdapter:
    """A wanted adapter."""
    return DesiredAdapter(name=name, uri=uri, digest=digest)


def manifest(**changes: Any) -> Manifest:
    """A manifest of a LoRA adapter without files."""
    return Manifest(
        kind="lora",
        method="sft",
        base=BaseReference(uri="pvc://models/tiny", digest=BASE_DIGEST),
        rank=8,
        target_modules=["q_proj"],
        files={},
        weights_digest=artifact.files_digest({}),
        end_of_turn_token_ids=[7],
        dtype="float32",
        probes=[Probe(token_ids=[1, 2, 3], base=[-2.0, -3.0], result=[-1.0, -0.5])],
    ).replace(**changes)


def safetensors() -> bytes:
    """A safetensors file with one number."""
    header = json.dumps({"lora_A": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(header)) + header + b"\0\0\0\0"


def write_model(folder: Path, *, weights: bytes = b"", **config: Any) -> None:
    """A base model: these bytes in a safetensors file, and its configuration."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(safetensors() + weights)


def publish_merged(root: Path) -> Path:
    """A model with an adapter in it, in a folder below this root that is named by its digest."""
    write_model(root / "new", weights=b"merged")
    digest = artifact.base_digest(root / "new").removeprefix("sha256:")
    return (root / "new").rename(root / f"base-{digest}")


def publish_model(root: Path, *, kind: Kind = "model") -> Path:
    """An artifact that is a model, in a folder below this root that is named by its digest."""
    write_model(root / "new", weights=b"trained")
    files = artifact.payload(root / "new")
    made = manifest(kind=kind, rank=None, files=files, weights_digest=artifact.files_digest(files))
    (root / "new/manifest.json").write_text(json.dumps(made.to_json()))
    return (root / "new").rename(root / artifact.folder_name(made.digest))


def published(
    root: Path,
    *,
    folder: str = "support",
    config: dict[str, Any] | None = None,
    extra: dict[str, bytes] | None = None,
    base: str = BASE_DIGEST,
    **changes: Any,
) -> Manifest:
    """An artifact in a folder below this root, with its manifest."""
    place = root / folder
    place.mkdir(parents=True)
    peft = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], **(config or {})}
    (place / "adapter_config.json").write_text(json.dumps(peft))
    (place / "adapter_model.safetensors").write_bytes(safetensors())
    for name, content in (extra or {}).items():
        (place / name).write_bytes(content)
    files = artifact.payload(place)
    origin = BaseReference(uri="pvc://models/tiny", digest=base)
    made = manifest(base=origin, files=files, weights_digest=artifact.files_digest(files), **changes)
    (place / "manifest.json").write_text(json.dumps(made.to_json()))
    return made


STATE = Path("/state")


def local(digest: str = DIGEST, **changes: Any) -> LocalArtifact:
    """A checked copy."""
    return LocalArtifact(STATE / artifact.folder_name(digest), manifest(**changes), chat_template="TRAINED")


def engine_view(
    *versions: tuple[str, str], table: RouteTable | None = None, in_flight: dict[str, int] | None = None
) -> EngineView:
    """A healthy engine with these (name, digest) registered from their folders."""
    folders = {engine_name(name, digest): str(STATE / artifact.folder_name(digest)) for name, digest in versions}
    state = GatewayState(instance="one", dtype="float32", table=table, in_flight=in_flight or {})
    return EngineView(state, folders, max_model_length=512)


def world(*wanted: DesiredAdapter, **changes: Any) -> World:
    """A world at time 0 with room for two adapters."""
    return World(**{"now": 0.0, "wanted": wanted, "capacity": 2, "base_digest": BASE_DIGEST, **changes})
