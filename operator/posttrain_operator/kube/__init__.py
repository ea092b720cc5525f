"""Requests to the API server: the only code that calls it, besides kopf's watches.

Verbs in use, which the chart's roles must allow and nothing more:

  posttrain.dev          trainingruns, adapterdeployments                 list watch; trainingruns also delete (TTL)
  posttrain.dev          trainingruns/status, adapterdeployments/status   patch
  batch                  jobs                                             list watch create patch delete
  networking.k8s.io      networkpolicies                                  list watch create patch delete
  apps                   deployments                                      list watch create patch
  ""                     configmaps                                       list watch create patch delete
  ""                     services                                         list watch create patch
  ""                     persistentvolumeclaims                           list watch create
  ""                     pods                                             list watch
  ""                     secrets                                          get create
  events.k8s.io          events                                           create
  apiextensions.k8s.io   customresourcedefinitions                        list watch (kopf, cluster-wide only)

Server-side apply needs create and patch. Everything is synchronous: call it in a thread.
"""

from posttrain_operator.kube.client import Api, connect
from posttrain_operator.kube.errors import ApiError, NotFound, Refused, Unreachable
from posttrain_operator.kube.resources import OWNERS, RESOURCES, WATCHED, Resource

__all__ = [
    "OWNERS",
    "RESOURCES",
    "WATCHED",
    "Api",
    "ApiError",
    "NotFound",
    "Refused",
    "Resource",
    "Unreachable",
    "connect",
]
