"""python -m tests.cluster up|down|status|build|kubeconfig"""

from __future__ import annotations

import argparse
import sys
import time

from rich.console import Console
from tests.cluster import build, layout, runtime
from tests.cluster.cluster import Cluster

_CONSOLE = Console(highlight=False, soft_wrap=True)


def main() -> int:
    arguments = _parser().parse_args()
    cluster = Cluster(arguments.name)
    match arguments.command:
        case "up":
            return _up(cluster, num_nodes=arguments.nodes)
        case "down":
            return _down(cluster)
        case "status":
            return _status(cluster)
        case "kubeconfig":
            print(cluster.kubeconfig)
        case "build":
            build.ensure()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster", description="A real Kubernetes cluster on this machine."
    )
    parser.add_argument("command", choices=["up", "down", "status", "build", "kubeconfig"])
    parser.add_argument("--name", default="posttrain", help="several clusters with different names can run at once")
    parser.add_argument("--nodes", type=int, default=1, help="0 is a control plane alone")
    return parser


def _up(cluster: Cluster, *, num_nodes: int) -> int:
    start = time.monotonic()
    cluster.up(num_nodes)
    _CONSOLE.print(f"cluster {cluster.name} is ready after {time.monotonic() - start:.1f} s")
    _CONSOLE.print(f"export KUBECONFIG={cluster.kubeconfig}")
    if missing := runtime.missing_environments(layout.cache()):
        _CONSOLE.print(f"without their environment in {layout.cache() / 'env'}, no pods of: {', '.join(missing)}")
    return 0


def _down(cluster: Cluster) -> int:
    start = time.monotonic()
    leftovers = cluster.down()
    for leftover in leftovers:
        _CONSOLE.print(f"left over: {leftover}", markup=False)
    _CONSOLE.print(f"cluster {cluster.name} is gone after {time.monotonic() - start:.1f} s")
    return 1 if leftovers else 0


def _status(cluster: Cluster) -> int:
    for component, pid in cluster.components().items():
        _CONSOLE.print(f"{component:28} {pid or 'has ended'}")
    is_healthy = cluster.is_healthy()
    _CONSOLE.print(f"cluster {cluster.name} is {'ready' if is_healthy else 'not running or not ready'}")
    return 0 if is_healthy else 1


if __name__ == "__main__":
    sys.exit(main())
