"""A real Kubernetes cluster on one machine, without Docker and without a registry.

cluster = Cluster("mine").up()
... kubectl --kubeconfig {cluster.kubeconfig} ...
cluster.down()
"""

from tests.cluster.cluster import RUNTIME_CLASS, Cluster, leftovers

__all__ = ["RUNTIME_CLASS", "Cluster", "leftovers"]
