"""Names of a run's children: fixed, made from the run's name. The number is the round."""


def recipe(run: str) -> str:
    """ConfigMap with the frozen recipe."""
    return f"{run}-0-recipe"


def preflight(run: str) -> str:
    """Job that reads the data without a GPU."""
    return f"{run}-0-preflight"


def training(run: str) -> str:
    """Job that trains: the first attempt of the first round."""
    return f"{run}-0-0"


def policy(run: str) -> str:
    """NetworkPolicy of the run's pods."""
    return f"{run}-trainer"
