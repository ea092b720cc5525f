"""What a user types after the demo: a folder with kubectl, helm and the plugin, and the text that tells of it."""

import sys
from pathlib import Path

from examples.demo.place import REPOSITORY, Place

PLUGIN = """#!/bin/sh
PYTHONPATH={source} exec {python} -m posttrain_cli "$@"
"""


def make_folder(folder: Path, place: Place) -> None:
    """Fill a folder that can be put on the PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    for program in (place.kubectl_program, place.helm_program):
        link = folder / program.name
        link.unlink(missing_ok=True)
        link.symlink_to(program)
    plugin = folder / "kubectl-posttrain"
    plugin.write_text(PLUGIN.format(source=REPOSITORY / "operator", python=sys.executable))
    plugin.chmod(0o755)


def next_steps(folder: Path, place: Place) -> str:
    """What to type next, and how to remove everything."""
    return f"""
What to type next:
  export KUBECONFIG={place.kubeconfig}
  export PATH={folder}:$PATH
  kubectl get posttrain
  kubectl describe trun dates
  kubectl posttrain chat assistants

To remove everything that the demo started:
  make demo-down"""
