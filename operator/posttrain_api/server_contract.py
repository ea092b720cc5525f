"""What operator and server pods say to each other: the adapters that are wanted, and what was proven of each."""

from datetime import datetime
from pathlib import PurePosixPath
from typing import Literal

from posttrain_api.artifact import Digest, digest_of
from posttrain_api.conditions import Reason
from posttrain_api.model import Model
from posttrain_api.v1alpha1.adapter_deployment import AdapterState

ENGINE_CONTAINER = "engine"
AGENT_CONTAINER = "agent"
KEY_CONTAINER = "key"
ENGINE_PORT = 8000
"""The OpenAI API, through the gateway."""
AGENT_PORT = 8001
"""GET /adapters (an AgentReport), POST /adapters (a DesiredAdapters, bearer token), GET /readyz, /healthz, /metrics."""

Runner = Literal["generate", "pooling"]
"""What vLLM makes of the base: generate writes text; pooling scores a conversation, for a reward model."""

KEY_FOLDER = PurePosixPath("/run/posttrain")
KEY_FILE = KEY_FOLDER / "key"
"""32 random bytes in a folder in memory, shared by agent and gateway alone."""
TOKEN_FOLDER = PurePosixPath("/etc/posttrain/agent")
TOKEN_FILE = TOKEN_FOLDER / "token"
"""The operator's bearer token for the agent, from a Secret."""
DESIRED_FOLDER = PurePosixPath("/etc/posttrain/adapters")
DESIRED_FILE = DESIRED_FOLDER / "adapters.json"
"""The desired list from the ConfigMap, which lags by up to a minute."""
CHAT_TEMPLATE_FOLDER = PurePosixPath("/etc/posttrain/chat-template")
CHAT_TEMPLATE_FILE = CHAT_TEMPLATE_FOLDER / "chat_template.jinja"
"""Chat template for requests to the base, where the deployment gives one."""
STATE_FOLDER = PurePosixPath("/var/lib/posttrain/adapters")
"""The pod's own disk: adapters by digest, and the last desired list."""


class DesiredAdapter(Model):
    """An adapter that is to answer under a name."""

    name: str
    """The model name that clients send."""
    uri: str
    """The artifact's folder."""
    digest: Digest
    """Digest of its manifest."""


class DesiredAdapters(Model):
    """Every adapter that a pod is to serve, sorted by name."""

    adapters: list[DesiredAdapter] = []

    @property
    def digest(self) -> str:
        """By which a report says what list it speaks of."""
        return digest_of(self.to_json())


class AdapterReport(Model):
    """What a pod knows of one wanted adapter."""

    name: str
    """The model name that clients send."""
    digest: Digest
    """The digest that is wanted."""
    state: AdapterState
    """Loaded: these weights answer under this name here, proven by digest and by behaviour. Failed is final for this
    digest until the engine restarts or the list changes."""
    serving_digest: Digest | None = None
    """The digest that answers under the name now: the wanted one, an older one, or none."""
    proven_at: datetime | None = None
    """When the serving digest's behaviour was proven."""
    reason: Reason | None = None
    """Why it is not loaded, as one word."""
    message: str | None = None
    """Why it is not loaded, for people."""


class EngineReport(Model):
    """What the agent knows of its vLLM."""

    state: Literal["Starting", "Healthy", "Failed"]
    """Healthy: it answers /health through the gateway, with a base that was not found to be another than it claims."""
    base_digest: Digest | None = None
    """Digest of the base model on this pod, once computed."""
    reason: Reason | None = None
    """What is wrong, as one word, where it is not the engine itself."""
    message: str | None = None
    """What is wrong."""


class AgentReport(Model):
    """GET /adapters: the truth about one pod."""

    desired_digest: str
    """Digest of the list that the pod works on."""
    engine: EngineReport
    """Its vLLM."""
    adapters: list[AdapterReport] = []
    """One entry for each wanted adapter."""
