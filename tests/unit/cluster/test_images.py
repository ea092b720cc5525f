"""The skeleton images: what a container finds in them, and that they are the same every time."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tests.cluster import images


@pytest.fixture
def pause(tmp_path: Path) -> Path:
    program = tmp_path / "pause"
    program.write_bytes(b"a program")
    return program


def archive(content: bytes) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(content))


def text(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file is not None
    return file.read()


def configurations(tar: tarfile.TarFile) -> dict[str, Any]:
    entries = json.loads(text(tar, "manifest.json"))
    return {entry["RepoTags"][0]: json.loads(text(tar, entry["Config"])) for entry in entries}


def test_layers_are_named_by_their_digest_and_shared_ones_stored_once(pause: Path) -> None:
    tar = archive(images.docker_archive(images.all_images(pause)))
    layers = [name for name in tar.getnames() if name.endswith(".tar")]
    assert len(layers) == len(set(layers)) == 2
    assert all(hashlib.sha256(text(tar, layer)).hexdigest() == layer.removesuffix(".tar") for layer in layers)


def test_every_image_names_a_layer_that_is_there(pause: Path) -> None:
    tar = archive(images.docker_archive(images.all_images(pause)))
    for configuration in configurations(tar).values():
        (digest,) = configuration["rootfs"]["diff_ids"]
        assert f"{digest.removeprefix('sha256:')}.tar" in tar.getnames()


def test_all_images_run_as_nonroot_and_under_the_projects_version(pause: Path) -> None:
    found = configurations(archive(images.docker_archive(images.all_images(pause))))
    version = images.project_version()
    ours = [f"posttrain.dev/{name}:{version}" for name in ("operator", "trainer", "server", "base")]
    assert set(found) == {images.PAUSE, *ours}
    assert {configuration["config"]["User"] for configuration in found.values()} == {"65532:65532"}


def test_a_program_starts_from_its_own_environment_and_sees_its_own_sources(pause: Path) -> None:
    found = configurations(archive(images.docker_archive(images.all_images(pause))))
    config = found[f"posttrain.dev/trainer:{images.project_version()}"]["config"]
    assert config["Entrypoint"] == ["/opt/posttrain/env/trainer/bin/python", "-m", "posttrain_trainer"]
    environment = dict(line.split("=", 1) for line in config["Env"])
    assert environment["PATH"].startswith("/opt/posttrain/env/trainer/bin:")
    assert environment["PYTHONPATH"] == "/opt/posttrain/src/operator:/opt/posttrain/src/images/trainer"


def test_the_skeleton_is_small_has_mount_points_and_a_tmp_for_everyone() -> None:
    tar = archive(images.skeleton())
    assert len(images.skeleton()) < 64 * 1024
    assert {"usr", "etc/ssl", "models", "opt/posttrain/env", "opt/posttrain/src"} <= set(tar.getnames())
    assert tar.getmember("tmp").mode == 0o1777
    assert tar.getmember("bin").linkname == "usr/bin"
    assert b"nonroot:x:65532:65532" in text(tar, "etc/passwd")


def test_the_same_images_have_the_same_bytes(pause: Path) -> None:
    assert images.docker_archive(images.all_images(pause)) == images.docker_archive(images.all_images(pause))
