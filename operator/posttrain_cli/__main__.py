"""The command line. Each command imports what it needs when it runs, so that `--help` is instant."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from posttrain_cli import env_commands
from posttrain_cli.command import Claims, ConfigMaps, Files, ImageFiles, Python, end
from posttrain_cli.situation import Have

if TYPE_CHECKING:
    from rich.console import Console

Namespace = Annotated[str | None, typer.Option("--namespace", "-n", help="Namespace; left out: the context's.")]
Context = Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig; left out: the current one.")]
Kubeconfig = Annotated[
    str | None, typer.Option("--kubeconfig", envvar="KUBECONFIG", help="Kubeconfig; left out: ~/.kube/config.")
]


def watch(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="NAME, trun/NAME or adep/NAME; none: all.")
    ] = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Follow TrainingRuns and AdapterDeployments until all are ready (exit code 0) or one has failed (1)."""

    def command() -> int:
        from rich.console import Console

        from posttrain_cli import connect, watch

        connection = connect.connect(kubeconfig=kubeconfig, context=context, namespace=namespace)
        with connection.explained():
            return watch.follow(connection.client, connection.namespace, names or [], Console(highlight=False))

    end(command)


def chat(
    deployment: Annotated[
        str | None, typer.Argument(help="NAME of the AdapterDeployment; not needed with --url.")
    ] = None,
    adapter: Annotated[
        list[str] | None, typer.Option(help="Adapter to ask beside the base, may be repeated; left out: all loaded.")
    ] = None,
    message: Annotated[
        list[str] | None,
        typer.Option("--message", "-m", help="Question, may be repeated, each asked on its own; left out: a prompt."),
    ] = None,
    url: Annotated[str | None, typer.Option(help="Server to ask; left out: a port-forward to the deployment.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 256,
    temperature: Annotated[float, typer.Option(min=0.0, max=2.0, help="0 takes the likeliest tokens.")] = 0.0,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    kubectl: Annotated[str, typer.Option(envvar="KUBECTL", help="kubectl, for the port-forward.")] = "kubectl",
) -> None:
    """Ask the base and its adapters the same and see the answers side by side."""
    if not deployment and not url:
        raise typer.BadParameter("give the name of an AdapterDeployment, or --url")

    def command() -> int:
        from rich.console import Console

        from posttrain_cli import reach

        console = Console(highlight=False)
        cluster = reach.Cluster(kubeconfig=kubeconfig, context=context, namespace=namespace, kubectl=kubectl)
        with reach.server(deployment, url=url, adapters=adapter or [], cluster=cluster, console=console) as server:
            return _talk(server.url, server.models, message or [], console, (temperature, max_tokens))

    end(command)


def validate(
    file: Files,
    known: Annotated[
        list[str] | None, typer.Option(metavar="RUN", help="TrainingRun that exists already, may be repeated.")
    ] = None,
) -> None:
    """Check TrainingRuns and AdapterDeployments in files, without a cluster."""

    def command() -> int:
        from rich.console import Console

        from posttrain_cli import validate

        return validate.validate(file, Console(highlight=False), known=known or [])

    end(command)


def estimate(
    file: Files,
    claims: Claims = None,
    config_maps: ConfigMaps = None,
    image_files: ImageFiles = None,
    gpu: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="GPU to reckon with, such as h200; left out: the one that a run selects."),
    ] = None,
    price_per_hour: Annotated[
        float | None, typer.Option(min=0.0, help="Its price for an hour; left out: the table's, an example.")
    ] = None,
    values: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Values of the chart, with the cluster's own table of GPUs.")
    ] = None,
    python: Python = sys.executable,
) -> None:
    """Read the data of the TrainingRuns in files and say what they need: steps, memory, time, cost."""

    def command() -> int:
        from rich.console import Console

        from posttrain_cli import estimate, gpus

        known = gpus.gpus(values, name=gpu, price_per_hour=price_per_hour)
        here = estimate.Here(claims or (), config_maps, image_files, known, python)
        return estimate.estimate(file, Console(highlight=False), here)

    end(command)


def recommend(
    have: Annotated[Have | None, typer.Option(help="What there is to learn from.")] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Rows of data.")] = None,
    base: Annotated[str | None, typer.Option(metavar="URI", help="Model to start from.")] = None,
    tuned: Annotated[bool | None, typer.Option(help="Whether that model follows instructions already.")] = None,
    data: Annotated[str | None, typer.Option(metavar="URI", help="The rows: a JSON Lines file.")] = None,
    new_knowledge: Annotated[
        bool | None, typer.Option(help="Whether examples hold facts new to the model, not only a form.")
    ] = None,
    teacher: Annotated[str | None, typer.Option(metavar="URI", help="The teacher, with --have teacher.")] = None,
    name: Annotated[str, typer.Option(help="Name of the run.")] = "my-model",
) -> None:
    """Say which method fits what you have, and why, with a manifest; asks for what no option says."""

    def command() -> int:
        from posttrain_cli import interview, recommend

        situation = interview.situation(
            have=have,
            rows=rows,
            base=base,
            is_tuned=tuned,
            data=data,
            teaches_knowledge=new_knowledge,
            teacher=teacher,
            name=name,
        )
        typer.echo(recommend.recommend(situation).to_yaml(), nl=False)
        return 0

    end(command)


def preflight(
    run: Annotated[str, typer.Argument(help="NAME of the TrainingRun.")],
    table: Annotated[bool, typer.Option("--table", help="Show it as a table for people, not as JSON.")] = False,
    timeout: Annotated[int, typer.Option(min=1, help="Seconds that its pod may take.")] = 120,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Print what a run's preflight found, read from the output's claim by a pod that is gone afterwards."""

    def command() -> int:
        from rich.console import Console

        from posttrain_cli import connect, preflight

        connection = connect.connect(kubeconfig=kubeconfig, context=context, namespace=namespace)
        name = run.rpartition("/")[2]
        console = Console(highlight=False)
        return preflight.show(connection, name, console, as_table=table, timeout_seconds=timeout)

    end(command)


def _talk(url: str, models: list[str], messages: list[str], console: "Console", sampling: tuple[float, int]) -> int:
    from posttrain_cli import chat
    from posttrain_cli.ask import Sampling

    how = Sampling(*sampling)
    if messages:
        return chat.compare(url, models, messages, console, sampling=how)
    return chat.converse(url, models, console, prompt=_prompt(console, models), sampling=how)


def _prompt(console: "Console", models: list[str]) -> Callable[[], str]:
    """A prompt with line editing on a terminal, plain lines elsewhere."""
    if not (console.is_terminal and sys.stdin.isatty()):
        return input
    # Imported for what it does to input(): arrow keys and the lines of before.
    import readline  # noqa: F401

    console.print(f"{' · '.join(models)}   (/quit ends)", style="dim", markup=False)
    return lambda: console.input("[bold]› [/bold]")


def _stop(number: int, _frame: object) -> None:
    sys.exit(128 + number)


def main() -> None:
    """The program `kubectl posttrain`."""
    # As an exception, so that a port-forward of ours ends with us.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    app = typer.Typer(
        help="Check, follow and try what posttrain trains and serves.",
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    app.callback()(lambda: None)
    app.command()(watch)
    app.command()(chat)
    app.command()(validate)
    app.command()(estimate)
    app.command()(recommend)
    app.command()(preflight)
    app.add_typer(env_commands.app)
    app(prog_name="kubectl posttrain")


if __name__ == "__main__":
    main()
