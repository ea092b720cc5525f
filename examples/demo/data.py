"""Where the demo's runs find their data: one task in a ConfigMap, the other in files on a claim."""

from pathlib import Path

from examples.demo.place import NAMESPACE, Place
from examples.demo.tasks import DATES_TASK, NUMBERS_TASK, Task
from tests.cluster import Cluster

CLAIM = "posttrain-data"


def put(place: Place, cluster: Cluster) -> None:
    """Give both runs their rows; what is there already stays as it is."""
    write(NUMBERS_TASK, cluster.volume(NAMESPACE, CLAIM) / NUMBERS_TASK.name)
    meta = {"name": DATES_TASK.name}
    place.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": DATES_TASK.files()})


def write(task: Task, folder: Path) -> None:
    """Write a task's files, but none that is right already: a run may be reading it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in task.files().items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
