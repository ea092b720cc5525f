"""The server image: vLLM behind our gateway, and the agent that loads and proves adapters."""
