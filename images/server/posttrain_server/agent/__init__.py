"""The agent: reconciles the adapters that are wanted with what its vLLM really answers with."""
