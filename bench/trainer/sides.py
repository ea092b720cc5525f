"""The two sides, each a process of its own in the trainer's environment, told the same numbers.

A second is one of the processor's: each side computes in one thread, so it is a second on an idle machine, and what
else runs does not count.
"""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from tests.cluster import layout

from bench.trainer.material import BATCH_SIZE, MAX_LENGTH, STEPS
from posttrain_api.trainer_contract import RunConfig
from posttrain_api.v1alpha1.training_run import TrainingRunSpec

LEARNING_RATE, RANK, ALPHA, SEED = 2e-3, 16, 32, 42
HYPERPARAMETERS = {
    "effectiveBatchSize": BATCH_SIZE,
    "learningRate": LEARNING_RATE,
    "warmupSteps": 0,
    "maxLength": MAX_LENGTH,
    "seed": SEED,
}
"""Of ours, for every method."""
LORA = {"lora": {"rank": RANK, "alpha": ALPHA}}
OPTIONS = {
    "per_device_train_batch_size": BATCH_SIZE,
    "learning_rate": LEARNING_RATE,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0,
    "use_peft": True,
    "lora_r": RANK,
    "lora_alpha": ALPHA,
    "lora_dropout": 0.0,
    "lora_target_modules": "all-linear",
    "max_grad_norm": 1.0,
    "seed": SEED,
    "use_cpu": True,
    "bf16": False,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
}
"""The same for TRL."""
_ENVIRONMENT = layout.cache() / "env" / "trainer" / "bin"


class Measured(NamedTuple):
    """One training, seen from outside."""

    first_step_seconds: float
    """From the start of the process to the end of the first step."""
    tokens_per_second: float
    """Tokens without padding, from the end of the first step to the end of the last."""
    steps_per_minute: float
    """Likewise."""
    tokens: int
    adapter: Path


def ours(spec: Mapping[str, Any], scratch: Path) -> Measured:
    """`python -m posttrain_trainer` with our defaults for everything that TRL is not told either."""
    recipe = TrainingRunSpec.model_validate({**spec, "output": {"uri": "pvc://out"}}).recipe()
    config = RunConfig(name="bench", uid="00000000-0000-4000-8000-000000000000", recipe=recipe)
    (scratch / "run.json").write_text(json.dumps(config.to_json()))
    program = [str(_ENVIRONMENT / "python"), "-m", "posttrain_trainer", "--config", str(scratch / "run.json")]
    times = _times([*program, "--claims-root", str(scratch)], lambda line: re.match(r"step \d+/", line) is not None)
    [metrics] = (scratch / "out").rglob("metrics.jsonl")
    steps = [json.loads(line)["tokens"] for line in metrics.read_text().splitlines()]
    return _measured(times, steps, metrics.parent)


def trl(method: str, options: Mapping[str, Any], scratch: Path) -> Measured:
    """`trl <method>`."""
    given = {**OPTIONS, **options, "output_dir": scratch / "trl"}
    words = [str(word) for name, value in given.items() for word in (f"--{name}", value)]
    tokens: list[int] = []

    def is_step(line: str) -> bool:
        found = re.search(r"'num_tokens': '?([\d.e+]+)", line)
        tokens.extend([round(float(found[1]))] if found else [])
        return found is not None

    times = _times([str(_ENVIRONMENT / "trl"), method, *words], is_step)
    return _measured(times, tokens, scratch / "trl")


def _measured(times: Sequence[float], tokens: Sequence[int], adapter: Path) -> Measured:
    assert len(times) == len(tokens) == STEPS, (times, tokens)
    seconds = times[-1] - times[0]
    speed, pace = (tokens[-1] - tokens[0]) / seconds, 60 * (STEPS - 1) / seconds
    return Measured(times[0], speed, pace, tokens[-1], adapter)


def _times(program: Sequence[str], is_step: Callable[[str], bool]) -> list[float]:
    """Seconds that a process computed until each line that says that a step is done."""
    found: list[float] = []
    said: list[str] = []
    with tempfile.TemporaryDirectory() as cache, _started(program, cache) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if is_step(line):
                found.append(_computed(process.pid))
    if len(found) != STEPS:
        raise RuntimeError(f"{program[0]} took {len(found)} of {STEPS} steps and said:\n{''.join(said[-30:])}")
    return found


def _started(program: Sequence[str], cache: str) -> "subprocess.Popen[str]":
    # Each starts as a pod does, with nothing cached.
    own = {"HF_HOME": cache, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(program, env=os.environ | own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _computed(pid: int) -> float:
    """Seconds; what a child computed that is gone is not among them."""
    found = psutil.Process(pid)
    times = [one.cpu_times() for one in (found, *found.children(recursive=True))]
    return sum(one.user + one.system for one in times)
