"""`kubectl posttrain env`: the commands for who writes an environment. Imports nothing heavy."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from posttrain_cli.command import Claims, ConfigMaps, Files, ImageFiles, Python, end
from posttrain_cli.env_kind import Kind

app = typer.Typer(name="env", no_args_is_help=True, help="Write an environment, and try it before a GPU is taken.")


@app.command("test")
def try_out(
    file: Files,
    claims: Claims = None,
    config_maps: ConfigMaps = None,
    image_files: ImageFiles = None,
    model: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="A checkpoint whose answers show whether there is a signal.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    python: Python = sys.executable,
) -> None:
    """Try rows and rewards of the TrainingRuns in files: no cluster, no GPU; 1 where something is wrong."""

    def command() -> int:
        from rich.console import Console

        from posttrain_cli import env_trial
        from posttrain_cli.estimate import Here

        here = Here(claims or (), config_maps, image_files, python=python)
        return env_trial.try_out(file, env_trial.Shown(Console(highlight=False), as_json), here, model=model)

    end(command)


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="NAME of the run, and of the folder that is written.")],
    kind: Annotated[Kind, typer.Option(help="What is asked.")] = Kind.ARITHMETIC,
    folder: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where to write; left out: a new folder NAME.")
    ] = None,
) -> None:
    """Write a new environment: rows, a reward as code with its test, and the manifests that train on it."""

    def command() -> int:
        from posttrain_cli import env_init

        typer.echo(env_init.init(name, kind, folder or Path(name)))
        return 0

    end(command)
