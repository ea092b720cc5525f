"""What grpo, rloo and ppo teach: success on held-out prompts before and after, measured by code that is not ours."""
