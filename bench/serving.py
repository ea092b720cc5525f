"""From an accepted run to the answer of its adapter, with the engine up."""

from pathlib import Path

from tests.e2e.assistants import Assistants
from tests.e2e.forward import forwarded
from tests.live import Access, Namespace

from bench.table import Row

NUM_RUNS = 3


def rows(access: Access, scratch: Path) -> list[Row]:
    """Serve the examples, then follow further short runs from accepted to answered."""
    namespace = Namespace(access, "bench-serving")
    namespace.create()
    assistants = Assistants(namespace, "file:///models/tiny", {"runtimeClassName": "posttrain-local"}, scratch)
    assistants.start()
    assistants.wait()
    with forwarded(namespace, "svc/assistants", 80) as assistants.url:
        worst = max(_seconds(assistants, f"late-{index}") for index in range(NUM_RUNS))
    return [Row(f"accepted run -> its adapter answers, slowest of {NUM_RUNS}", f"{worst:.2f} s", "5 s", worst <= 5)]


def _seconds(assistants: Assistants, name: str) -> float:
    assistants.start_run(name, like="numbers", maxSteps=30)
    with assistants.deployed(name=name, fromRun={"name": name}):
        return assistants.seconds_from_accepted_to_answer(name, model=name)
