"""What it is called when a reward gives no score."""


class RewardFailed(Exception):
    """A reward could not say what an answer is worth; the message names it and says what to change."""
