"""Names, keys and labels of a deployment's children, made from its own name. Pure."""

from posttrain_api import labels, server_contract

COMPONENT = "server"
TOKEN_KEY = server_contract.TOKEN_FILE.name
LIST_KEY = server_contract.DESIRED_FILE.name
SOURCES_KEY = "runs.json"
"""Adapter name -> the run that its artifact came from. For us, not for pods."""
BASE_KEY = "base.json"
"""The base that pods load, and the run that it came from. For us, not for pods."""
TEMPLATE_KEY = server_contract.CHAT_TEMPLATE_FILE.name


def pod_labels(name: str) -> dict[str, str]:
    """The labels by which a deployment's pods are selected."""
    return {labels.ADAPTER_DEPLOYMENT: name, labels.COMPONENT: COMPONENT}


def config_map_name(name: str) -> str:
    """Name of the ConfigMap with the desired list."""
    return f"{name}-adapters"


def secret_name(name: str) -> str:
    """Name of the Secret with the agents' token."""
    return f"{name}-agent"
