"""What grpo, rloo and ppo share: the model's own answers, their scores, and the watch over what they teach."""
