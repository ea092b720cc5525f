"""What the commands have in common: their options, and how one ends. Imports nothing heavy."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

Files = Annotated[
    list[str], typer.Option("--file", "-f", metavar="FILE", help="File of YAML documents, may be repeated; - is stdin.")
]
Claims = Annotated[
    list[Path] | None, typer.Option(metavar="FOLDER", help="FOLDER/CLAIM stands for pvc://CLAIM, may be repeated.")
]
ConfigMaps = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="FOLDER/NAME/KEY stands for a ConfigMap's key.")
]
ImageFiles = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="FOLDER/path stands for file:///path in the trainer's image.")
]
Python = Annotated[
    str, typer.Option(envvar="POSTTRAIN_PYTHON", help="Python with posttrain[trainer]; left out: this one.")
]


def end(command: Callable[[], int]) -> None:
    """Run a command to its exit code; what a user can change is told in one red line."""
    from posttrain_cli.failure import Failure

    try:
        code = command()
    except Failure as problem:
        from rich.console import Console

        Console(stderr=True, highlight=False).print(f"error: {problem}", style="bold red", markup=False, soft_wrap=True)
        code = 1
    except KeyboardInterrupt:
        code = 130
    raise typer.Exit(code)
