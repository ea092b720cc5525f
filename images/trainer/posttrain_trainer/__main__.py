"""Trains one run, or checks it: `python -m posttrain_trainer --config run.json [--preflight]`.

`python -m posttrain_trainer --merge JSON` merges an adapter into its base.

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
    found.add_argument("--preflight", action="store_true", help="check the run and its data, train nothing")
    found.add_argument(
        "--termination-message", type=Path, metavar="FILE", help="write the report there (default: standard output)"
    )
    found.add_argument(
        "--status-port", type=int, metavar="PORT", help="serve /status and /metrics on this port while it trains"
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; returns an exit code of trainer_contract."""
    options = parser().parse_args(arguments)
    from posttrain_trainer import run

    return run.main(options)


if __name__ == "__main__":
    raise SystemExit(main())
