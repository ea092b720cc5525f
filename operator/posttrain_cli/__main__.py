"""The command line. Each command imports what it needs when it runs, so that `--help` is instant."""

import signal
import sys
from collections.abc import Callable
from typing import Annotated

import typer

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

    _end(command)


def _end(command: Callable[[], int]) -> None:
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


def _stop(number: int, _frame: object) -> None:
    sys.exit(128 + number)


def main() -> None:
    """The program `kubectl posttrain`."""
    # As an exception, so that a port-forward of ours ends with us.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    app = typer.Typer(
        help="Follow and try what posttrain trains and serves.",
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    app.callback()(lambda: None)
    app.command()(watch)
    app(prog_name="kubectl posttrain")


if __name__ == "__main__":
    main()
