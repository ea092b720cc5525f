"""The kinds that we read and write: where the API server serves them, and which of them we watch."""

from dataclasses import dataclass

from posttrain_api.v1alpha1 import GROUP, VERSION, adapter_deployment, training_run


@dataclass(frozen=True)
class Resource:
    """A kind and the URL of its objects."""

    group: str
    version: str
    kind: str
    plural: str

    @property
    def api_version(self) -> str:
        """As manifests write it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """Path of an object, or of all; no namespace is all namespaces."""
        parts = ["/apis" if self.group else "/api", self.api_version]
        parts += ["namespaces", namespace] if namespace else []
        return "/".join([*parts, self.plural, *(part for part in (name, subresource) if part)])


OWNERS = (
    Resource(GROUP, VERSION, training_run.KIND, training_run.PLURAL),
    Resource(GROUP, VERSION, adapter_deployment.KIND, adapter_deployment.PLURAL),
)
CHILDREN = (
    Resource("", "v1", "ConfigMap", "configmaps"),
    Resource("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    Resource("", "v1", "Pod", "pods"),
    Resource("", "v1", "Service", "services"),
    Resource("apps", "v1", "Deployment", "deployments"),
    Resource("batch", "v1", "Job", "jobs"),
    Resource("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
)
"""Watched with our label only."""
UNWATCHED = (
    Resource("", "v1", "Secret", "secrets"),
    Resource("events.k8s.io", "v1", "Event", "events"),
)
WATCHED = (*OWNERS, *CHILDREN)
RESOURCES = {resource.kind: resource for resource in (*WATCHED, *UNWATCHED)}
