"""Names of a run's children: fixed, made from the run's name and the number of the round."""


def recipe(run: str, round: int = 0) -> str:
    """ConfigMap with the frozen recipe."""
    return f"{run}-{round}-recipe"


def preflight(run: str, round: int = 0) -> str:
    """Job that reads the data without a GPU."""
    return f"{run}-{round}-preflight"


def training(run: str, round: int = 0) -> str:
    """Job that trains: the first attempt of the round."""
    return f"{run}-{round}-0"


def policy(run: str) -> str:
    """NetworkPolicy of the run's pods."""
    return f"{run}-trainer"
