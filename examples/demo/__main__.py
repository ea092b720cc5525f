"""`python -m examples.demo`: the whole path, from an empty machine to answers, on a local cluster. `make demo` runs it.

Each stage takes what it finds done, so the demo can be run again at any time, however it ended.
"""

import os
import sys
from pathlib import Path

from examples.demo import base, data, shell
from examples.demo.place import NAMESPACE, REPOSITORY, Place
from examples.demo.stages import Stages, limited
from examples.demo.tasks import TASKS, Task
from rich.console import Console
from tests.cluster import Cluster

from posttrain_cli.failure import Failure, one_line

DEPLOYMENT = "assistants"
EXAMPLES = [REPOSITORY / "examples" / f"{name}.yaml" for name in (*(task.name for task in TASKS), DEPLOYMENT)]
QUESTIONS_PER_TASK = 2
MAX_ANSWER_TOKENS = 20
MAX_TRAINING_SECONDS = 1200
INTERRUPTED = 130


def main() -> int:
    """Run the demo; the exit code is 0 when every model has answered."""
    console = Console(highlight=False)
    os.environ.update(base.PATIENT_THREADS)
    try:
        return demonstrate(console)
    except KeyboardInterrupt:
        console.print(
            "\ninterrupted: `make demo` goes on from here, `make demo-down` removes everything", style="yellow"
        )
        return INTERRUPTED
    except (Failure, OSError, RuntimeError) as problem:
        console.print(f"error: {one_line(str(problem))}", style="bold red", markup=False, soft_wrap=True)
        return 1


def demonstrate(console: Console) -> int:
    """Every stage in its order."""
    cache = base.cache_folder(os.environ)
    cluster, stages = Cluster(), Stages(console)
    place = Place(cluster.kubeconfig, cluster.binary("kubectl"), cluster.binary("helm"))
    _prepare(cluster, place, stages)
    if not _follow(place, stages):
        console.print(f"look closer: KUBECONFIG={place.kubeconfig} kubectl describe posttrain", soft_wrap=True)
        return 1
    _show_scores(place, stages, model=base.model_folder(cache))
    code = _ask(place, stages)
    shell.make_folder(cache / "demo" / "bin", place)
    console.print(stages.table())
    console.print(shell.next_steps(cache / "demo" / "bin", place), soft_wrap=True)
    return code


def _prepare(cluster: Cluster, place: Place, stages: Stages) -> None:
    with stages.stage("local cluster"):
        cluster.up(nodes=1)
    with stages.stage("operator, by its chart"):
        place.install_operator()
    with stages.stage("data, two runs and a deployment"):
        data.put(place, cluster)
        remove_failed(place)
        place.kubectl("apply", "--server-side", *(f"--filename={path}" for path in EXAMPLES))


def remove_failed(place: Place) -> None:
    """Delete runs of ours that failed, so that they are tried again: a recipe runs once."""
    for run in place.get("trainingruns", *(task.name for task in TASKS)):
        conditions = run.get("status", {}).get("conditions", [])
        if any(known["type"] == "Stalled" and known["status"] == "True" for known in conditions):
            place.kubectl("delete", "trainingrun", run["metadata"]["name"])


def _follow(place: Place, stages: Stages) -> bool:
    """Show how the runs and the deployment get on; whether all became ready. A failure is shown with its reason."""
    from posttrain_cli import connect, watch

    names = [*(f"trun/{task.name}" for task in TASKS), f"adep/{DEPLOYMENT}"]
    title = "training, while the server starts"
    with stages.stage(title, shows_itself=True), limited(MAX_TRAINING_SECONDS, what=title):
        connection = connect.connect(kubeconfig=str(place.kubeconfig), namespace=NAMESPACE)
        with connection.explained():
            code = watch.follow(connection.client, NAMESPACE, names, stages.console)
    if code == watch.INTERRUPTED:
        raise KeyboardInterrupt
    return code == 0


def _show_scores(place: Place, stages: Stages, *, model: Path) -> None:
    with stages.stage("held-out scores, measured again"):
        from examples.demo import scores

        runs = {run["metadata"]["name"]: run for run in place.get("trainingruns", *(task.name for task in TASKS))}
        found = [_score(place, task, runs[task.name], model=model) for task in TASKS]
    stages.console.print(scores.table(found))


def _score(place: Place, task: Task, run: dict[str, object], *, model: Path) -> tuple[Task, dict[str, object], float]:
    from examples.demo import scores

    return task, run, scores.measured_again(place, task, run, base=model)


def _ask(place: Place, stages: Stages) -> int:
    """Ask every model the same; 1 where one could not answer."""
    from posttrain_cli import chat, forward
    from posttrain_cli.ask import Sampling

    questions = [row.question for task in TASKS for row in task.fresh_rows(QUESTIONS_PER_TASK)]
    models = ["base", *(task.name for task in TASKS)]
    sampling = Sampling(max_tokens=MAX_ANSWER_TOKENS)
    way = forward.service(
        DEPLOYMENT, namespace=NAMESPACE, kubeconfig=str(place.kubeconfig), kubectl=str(place.kubectl_program)
    )
    title = "questions that no run has seen, to the base and both adapters"
    with stages.stage(title, shows_itself=True), way as url:
        return chat.compare(url, models, questions, stages.console, sampling=sampling)


if __name__ == "__main__":
    sys.exit(main())
