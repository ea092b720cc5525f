"""What vLLM's --middleware names. It must be a class that needs nothing but the application: settings come from the
environment that `posttrain_server engine` made, and this is the one place in the engine's process that reads it."""

import os
from pathlib import Path
from typing import cast

from posttrain_api.artifact import Dtype
from posttrain_api.server_contract import Runner
from posttrain_server import key
from posttrain_server.gateway.app import Gateway, GatewaySettings
from posttrain_server.gateway.asgi import App


class EngineGateway(Gateway):
    """The gateway with the settings of this process."""

    def __init__(self, app: App) -> None:
        settings = GatewaySettings(
            key=key.read(Path(os.environ["POSTTRAIN_KEY_FILE"])),
            dtype=cast("Dtype", os.environ["POSTTRAIN_ENGINE_DTYPE"]),
            runner=cast("Runner", os.environ["POSTTRAIN_ENGINE_RUNNER"]),
        )
        super().__init__(app, settings=settings)
