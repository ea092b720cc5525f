"""The gateway: ASGI middleware in vLLM's process. Which doors are open, which version a name means, what is metered."""
