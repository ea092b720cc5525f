"""Trains one run, or checks it: `python -m posttrain_trainer --config run.json [--preflight]`.

`python -m posttrain_trainer --merge JSON` merges an adapter into its base.
`python -m posttrain_trainer --test-environment run.json` tries rows and rewards without a GPU.
`python -m posttrain_trainer --rewards-server` runs reward code that is not ours, apart from a trainer.

Only the command line stands here, so that `--help` is instant: everything else is imported once it is needed.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(prog="python -m posttrain_trainer", description="Train a run, or check it.")
    what = found.add_mutually_exclusive_group(required=True)
    what.add_argument("--config", type=Path, metavar="FILE", help="the run: a RunConfig as JSON")
    what.add_argument("--merge", metavar="JSON", help="merge an adapter into its base: a MergeConfig as JSON")
    what.add_argument("--test-environment", type=Path, metavar="FILE", help="try the environment of a run")
    what.add_argument("--rewards-server", action="store_true", help="run reward code for a trainer that asks for it")
    found.add_argument(
        "--with-model", action="store_true", help="with --test-environment: the base model is here, ask it too"
    )
    found.add_argument("--preflight", action="store_true", help="check the run and its data, train nothing")
    found.add_argument(
        "--termination-message", type=Path, metavar="FILE", help="write the report there (default: standard output)"
    )
    found.add_argument(
        "--status-port", type=int, metavar="PORT", help="serve /status and /metrics on this port while it trains"
    )
    found.add_argument(
        "--socket",
        type=Path,
        metavar="FILE",
        help="with --rewards-server: listen there (default: take what a trainer hands over standard input)",
    )
    found.add_argument(
        "--uid", type=int, help="with --rewards-server, as root: the user that reward code runs as (default: 65534)"
    )
    add_places(found)
    return found


def add_places(found: argparse.ArgumentParser) -> None:
    """The options that say where URIs and ConfigMaps lie without a cluster."""
    found.add_argument(
        "--claims-root",
        type=Path,
        metavar="FOLDER",
        help="pvc://claim/path is FOLDER/claim/path (default: where a pod mounts claims)",
    )
    found.add_argument(
        "--config-maps-root",
        type=Path,
        metavar="FOLDER",
        help="a ConfigMap's key is FOLDER/name/key (default: where a pod mounts ConfigMaps)",
    )
    found.add_argument(
        "--image-root", type=Path, metavar="FOLDER", help="file:///path is FOLDER/path (default: the image's own root)"
    )
    found.add_argument(
        "--rewards-socket",
        type=Path,
        metavar="FILE",
        help="where a rewards server listens (default: the trainer starts one where it needs it)",
    )
    found.add_argument("--rollout-url", metavar="URL", help="where vLLM answers, for rollout.mode server")


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; returns an exit code of trainer_contract."""
    options = parser().parse_args(arguments)
    if options.rewards_server:
        from posttrain_trainer.sandbox import server

        return server.main(options)
    if options.test_environment is not None:
        from posttrain_trainer.trial import environment

        return environment.main(options)
    from posttrain_trainer import run

    return run.main(options)


if __name__ == "__main__":
    raise SystemExit(main())
