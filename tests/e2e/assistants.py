"""The examples, applied to a real cluster once for all tests: two runs and a deployment that serves what they made."""

import copy
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import urllib3
import yaml
from examples.demo import tasks
from examples.demo.tasks import Row
from tests.cluster import layout
from tests.e2e import claims
from tests.live import Namespace, has_condition

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
DATA_CLAIM = "posttrain-data"
ARTIFACTS_CLAIM = "posttrain-artifacts"
TASKS = {task.name: task for task in tasks.TASKS}
Object = dict[str, Any]


def example(name: str, base_uri: str) -> Object:
    """An example's manifest on the tests' base model."""
    manifest: Object = yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text())
    manifest["spec"]["baseModel"]["uri"] = base_uri
    return manifest


def adapter_state(deployment: Object, name: str) -> Object | None:
    """What a deployment's status says of one adapter."""
    adapters = deployment["status"].get("adapters") or []
    return next((found for found in adapters if found["name"] == name), None)


class Assistants:
    """The namespace of the examples, and ways to ask."""

    def __init__(self, namespace: Namespace, base_uri: str, runtime_class: Object, scratch: Path) -> None:
        self.namespace = namespace
        self.url = ""
        self.seen: dict[str, list[Object]] = {name: [] for name in TASKS}
        self._base_uri = base_uri
        self._runtime_class = runtime_class
        self._scratch = scratch

    def start(self) -> None:
        """Give the data and apply the examples."""
        claims.make(self.namespace, DATA_CLAIM)
        data = claims.Files(self.namespace, DATA_CLAIM, self._runtime_class)
        for task in TASKS.values():
            folder = self._scratch / "data" / task.name
            tasks.write(task, folder)
            data.put(folder, task.name)
            meta = {"name": task.name}
            self.namespace.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": task.files()})
        for name in (*TASKS, "assistants"):
            self.namespace.apply(example(name, self._base_uri))

    def wait(self) -> None:
        """Return when both runs and the deployment are Ready; every status on the way is kept in `seen`."""
        with ThreadPoolExecutor(len(TASKS)) as pool:
            list(pool.map(self._follow, TASKS))
        ready = has_condition("Ready", "True")
        self.namespace.wait_for("AdapterDeployment", "assistants", ready, within=240, what="Ready")

    def _follow(self, name: str) -> None:
        def is_over(run: Object) -> bool:
            self.seen[name].append(run["status"])
            return has_condition("Ready", "True")(run) or has_condition("Stalled", "True")(run)

        run = self.namespace.wait_for("TrainingRun", name, is_over, within=400, what="over")
        assert has_condition("Ready", "True")(run), run["status"]

    @property
    def client(self) -> openai.OpenAI:
        """An ordinary client of the service."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=30)

    def messages(self, question: str) -> list[Any]:
        """A question as a conversation."""
        return [{"role": "user", "content": question}]

    def ask(self, model: str, question: str) -> str:
        """The greedy answer."""
        made = self.client.chat.completions.create(
            model=model, messages=self.messages(question), temperature=0, max_tokens=20
        )
        return (made.choices[0].message.content or "").strip()

    def held_out(self, task: str) -> list[Row]:
        """The rows that a task is judged by."""
        return TASKS[task].held_out_rows()

    def run(self, name: str) -> Object:
        """A run as it is."""
        found = self.namespace.get("TrainingRun", name)
        assert found is not None
        return found

    def base_folder(self) -> Path:
        """The base model on this machine."""
        return layout.cache() / "models" / "tiny"

    def artifact_folder(self, run: str) -> Path:
        """A run's artifact, copied to this machine once."""
        local = self._scratch / "artifacts" / run
        if not local.exists():
            local.parent.mkdir(exist_ok=True)
            path = self.run(run)["status"]["artifact"]["uri"].removeprefix(f"pvc://{ARTIFACTS_CLAIM}/")
            claims.Files(self.namespace, ARTIFACTS_CLAIM, self._runtime_class).get(path, local)
        return local

    def files_on_claim(self, uri: str) -> set[str]:
        """Names of the files below a URI on the artifacts' claim."""
        path = uri.removeprefix(f"pvc://{ARTIFACTS_CLAIM}/")
        listed = claims.Files(self.namespace, ARTIFACTS_CLAIM, self._runtime_class).list(path)
        return {Path(name).name for name in listed}

    def publish(self, folder: Path, name: str) -> str:
        """Put an adapter's folder on the artifacts' claim; its URI."""
        claims.Files(self.namespace, ARTIFACTS_CLAIM, self._runtime_class).put(folder, f"others/{name}")
        return f"pvc://{ARTIFACTS_CLAIM}/others/{name}"

    def deployment(self) -> Object:
        """The deployment as it is."""
        found = self.namespace.get("AdapterDeployment", "assistants")
        assert found is not None
        return found

    @contextmanager
    def deployed(self, **adapter: Any) -> Iterator[None]:
        """One adapter more for as long as the block lasts."""
        manifest = example("assistants", self._base_uri)
        more = copy.deepcopy(manifest)
        more["spec"]["adapters"].append(adapter)
        self.namespace.apply(more)
        try:
            yield
        finally:
            self.namespace.apply(manifest)
        gone = adapter["name"]
        self.namespace.wait_for(
            "AdapterDeployment",
            "assistants",
            lambda d: adapter_state(d, gone) is None,
            within=30,
            what=f"without {gone}",
        )

    def wait_for_adapter(self, name: str, state: str) -> Object:
        """The deployment once its status, for its present generation, has the adapter in this state."""

        def holds(deployment: Object) -> bool:
            current = deployment["status"]["observedGeneration"] == deployment["metadata"]["generation"]
            found = adapter_state(deployment, name)
            return current and found is not None and found["state"] == state

        return self.namespace.wait_for("AdapterDeployment", "assistants", holds, within=40, what=f"{name} {state}")

    def server_pods(self) -> list[tuple[str, list[int]]]:
        """UID and restarts of every server pod."""
        pods = self.namespace.list("Pod", "posttrain.dev/adapter-deployment=assistants")
        return sorted(
            (pod["metadata"]["uid"], [status["restartCount"] for status in pod["status"]["containerStatuses"]])
            for pod in pods
        )

    def start_run(self, name: str, *, like: str, **hyperparameters: Any) -> None:
        """A short run on a task's data."""
        manifest = example(like, self._base_uri)
        manifest["metadata"]["name"] = name
        numbers = {**manifest["spec"]["hyperparameters"], **hyperparameters}
        numbers.pop("epochs" if "maxSteps" in hyperparameters else "maxSteps", None)
        manifest["spec"] |= {
            "hyperparameters": numbers,
            "evaluation": {"metrics": ["loss"]},
            "preflight": "Skip",
        }
        self.namespace.apply(manifest)

    def seconds_from_accepted_to_answer(self, run: str, *, model: str) -> float:
        """Wait until the run is accepted; seconds from that watch event to the first answer of its adapter."""
        self.namespace.wait_for("TrainingRun", run, has_condition("Ready", "True"), within=180, what="Ready")
        accepted = time.monotonic()
        body = {"model": model, "messages": self.messages("hello"), "max_tokens": 1}
        while (seconds := time.monotonic() - accepted) < 30:
            answer = urllib3.request("POST", f"{self.url}/v1/chat/completions", json=body, retries=False)
            if answer.status == 200:
                return seconds
            assert answer.status in (404, 503), answer.data
            threading.Event().wait(0.05)
        raise AssertionError(f"{model} did not answer within 30 s")
