"""What the harness writes for the cluster's programs, and how it reads its own sources."""

import tomllib
from pathlib import Path

import pytest
from tests.cluster import build, cgroups, identities, layout, processes, runtime, slots, waiting

CLUSTER = layout.Layout(name="one", slot=3, cache=Path("/cache"))


@pytest.fixture
def register(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A register of clusters of this test alone."""
    monkeypatch.setenv("POSTTRAIN_RUN", str(tmp_path / "run"))
    monkeypatch.setenv("POSTTRAIN_CACHE", str(tmp_path / "cache"))


def test_containers_see_the_machine_read_only() -> None:
    spec = {"process": {"rlimits": [{"type": "RLIMIT_NOFILE"}], "cwd": "/"}, "mounts": [{"destination": "/proc"}]}
    seen = runtime.with_machine(spec, [(Path("/here"), "/there")])
    bind = {"source": "/here", "destination": "/there", "type": "bind", "options": ["rbind", "ro", "nosuid", "nodev"]}
    assert seen == {"process": {"cwd": "/"}, "mounts": [{"destination": "/proc"}, bind]}


def test_the_python_behind_an_environment_is_found(tmp_path: Path) -> None:
    home = tmp_path / "python" / "bin"
    home.mkdir(parents=True)
    (tmp_path / "env" / "trainer").mkdir(parents=True)
    (tmp_path / "env" / "trainer" / "pyvenv.cfg").write_text(f"home = {home}\nversion_info = 3.11\n")
    assert tmp_path / "python" in runtime.python_homes(tmp_path / "env")


def test_environments_that_are_not_there_are_named(tmp_path: Path) -> None:
    (tmp_path / "env" / "trainer" / "bin").mkdir(parents=True)
    (tmp_path / "env" / "trainer" / "bin" / "python").touch()
    assert runtime.missing_environments(tmp_path) == ["operator", "server"]


def test_containerds_configuration_is_toml_and_keeps_to_the_clusters_folders() -> None:
    node = CLUSTER.node(0)
    config = tomllib.loads(runtime.containerd_config(node, cni_plugins=Path("/plugins")))
    cri = config["plugins"]["io.containerd.grpc.v1.cri"]
    assert config["root"].startswith(str(CLUSTER.root))
    assert config["state"].startswith(str(CLUSTER.run))
    assert cri["restrict_oom_score_adj"] is True
    assert set(cri["containerd"]["runtimes"]) == {"runc", "posttrain"}


@pytest.mark.usefixtures("register")
def test_every_cluster_gets_the_lowest_free_slot_and_keeps_it() -> None:
    first, second = slots.claim("first"), slots.claim("second")
    assert (first.slot, second.slot) == (0, 1)
    assert slots.claim("first") == first == slots.find("first")
    slots.release(first)
    assert slots.find("first") is None
    assert slots.claim("third").slot == 0


@pytest.mark.usefixtures("register")
def test_a_name_that_another_cache_uses_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    slots.claim("one")
    monkeypatch.setenv("POSTTRAIN_CACHE", str(tmp_path / "elsewhere"))
    with pytest.raises(ValueError, match="belongs to the cache"):
        slots.claim("one")


@pytest.mark.usefixtures("register")
def test_every_user_has_a_token_of_its_own_that_only_its_owner_reads() -> None:
    cluster = slots.claim("one")
    cluster.pki.mkdir(parents=True)
    (cluster.pki / "ca.crt").write_text("a certificate")
    identities.make(cluster)
    rows = [line.split(",") for line in identities.token_file(cluster).read_text().splitlines()]
    assert len({token for token, *_ in rows}) == len(rows) == 5 + layout.MAX_NODES
    assert all(path.stat().st_mode & 0o077 == 0 for path in [*cluster.pki.glob("*.*config"), cluster.kubeconfig])


def test_the_versions_come_from_go_mod() -> None:
    assert build.module_version("k8s.io/kubernetes").startswith("v1.")
    with pytest.raises(ValueError, match="does not require"):
        build.module_version("example.org/nothing")


@pytest.mark.usefixtures("register")
def test_a_process_is_known_by_its_number_and_its_start() -> None:
    cluster = slots.claim("one")
    cluster.run.mkdir(parents=True)
    (cluster.run / "etcd.pid").write_text(f"1 {processes.start_time(1)}")
    (cluster.run / "kubelet.pid").write_text("1 12345678901234")
    assert processes.pid(cluster, "etcd") == 1
    assert processes.missing(cluster) == ["kubelet"]


def test_a_group_that_is_not_there_has_no_processes() -> None:
    assert cgroups.processes("posttrain-no-such-cluster") == set()
    cgroups.kill("posttrain-no-such-cluster")


def test_waiting_ends_with_the_name_of_what_did_not_come() -> None:
    with pytest.raises(TimeoutError, match=r"the moon: not after 0\.1 s"):
        waiting.until(lambda: False, what="the moon", timeout_seconds=0.1)
