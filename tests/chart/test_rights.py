"""The operator's rights: exactly the verbs that it uses, on the cluster or in the namespaces that it watches."""

from collections import defaultdict

from tests.chart.conftest import Manifest, Rendered

from posttrain_operator.kube.resources import RESOURCES, WATCHED

Rights = dict[str, set[str]]

APPLY = {"create", "patch"}
"""What server-side apply needs."""
LOOK = {"list", "watch"}
EXPECTED: Rights = {
    "trainingruns.posttrain.dev": LOOK | {"delete"},
    "trainingruns/status.posttrain.dev": {"patch"},
    "adapterdeployments.posttrain.dev": LOOK,
    "adapterdeployments/status.posttrain.dev": {"patch"},
    "configmaps": LOOK | APPLY | {"delete"},
    "jobs.batch": LOOK | APPLY | {"delete"},
    "networkpolicies.networking.k8s.io": LOOK | APPLY | {"delete"},
    "deployments.apps": LOOK | APPLY,
    "services": LOOK | APPLY,
    "persistentvolumeclaims": LOOK | {"create"},
    "pods": LOOK,
    "secrets": {"get", "create"},
    "events.events.k8s.io": {"create"},
}


def rights(role: Manifest) -> Rights:
    """Resource and group -> verbs."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for rule in role["rules"]:
        names = [f"{resource}.{group}".rstrip(".") for group in rule["apiGroups"] for resource in rule["resources"]]
        for name in names:
            found[name] |= set(rule["verbs"])
    return dict(found)


def roles(manifests: list[Manifest]) -> dict[tuple[str, str], Rights]:
    """(kind, namespace) -> rights."""
    found = (manifest for manifest in manifests if manifest["kind"] in ("Role", "ClusterRole"))
    return {(role["kind"], role["metadata"].get("namespace", "")): rights(role) for role in found}


def bindings(manifests: list[Manifest]) -> set[tuple[str, str, str, str]]:
    """(kind, namespace, kind of the role, namespace of the service account)."""
    found = (manifest for manifest in manifests if manifest["kind"] in ("RoleBinding", "ClusterRoleBinding"))
    return {
        (
            binding["kind"],
            binding["metadata"].get("namespace", ""),
            binding["roleRef"]["kind"],
            binding["subjects"][0]["namespace"],
        )
        for binding in found
    }


def test_rights_on_the_whole_cluster(rendered: Rendered) -> None:
    manifests = rendered()
    noticed = {"customresourcedefinitions.apiextensions.k8s.io": LOOK}

    assert roles(manifests) == {("ClusterRole", ""): EXPECTED | noticed}
    assert bindings(manifests) == {("ClusterRoleBinding", "", "ClusterRole", "posttrain-system")}


def test_rights_in_some_namespaces_only(rendered: Rendered) -> None:
    manifests = rendered({"watchNamespaces": ["team-a", "team-b"]})

    assert roles(manifests) == {("Role", "team-a"): EXPECTED, ("Role", "team-b"): EXPECTED}
    assert bindings(manifests) == {
        ("RoleBinding", "team-a", "Role", "posttrain-system"),
        ("RoleBinding", "team-b", "Role", "posttrain-system"),
    }


def test_every_kind_that_is_watched_may_be_watched_and_no_other(rendered: Rendered) -> None:
    granted = roles(rendered({"watchNamespaces": ["team"]}))["Role", "team"]
    watched = {f"{resource.plural}.{resource.group}".rstrip(".") for resource in WATCHED}
    known = {f"{resource.plural}.{resource.group}".rstrip(".") for resource in RESOURCES.values()}

    assert {name for name, verbs in granted.items() if verbs >= LOOK} == watched
    assert {name for name in granted if "/" not in name} == known
