"""What the trainer does now: one status, served to the operator as JSON and to Prometheus as metrics."""

import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, get_args

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Enum, Gauge, Info, generate_latest

from posttrain_api.trainer_contract import TrainerStatus
from posttrain_api.v1alpha1.health import CONDITIONS, HealthFinding
from posttrain_api.v1alpha1.training_run_status import Metrics, NamedCheckpoint

Stage = Literal["Loading", "Evaluating", "Training", "Sampling", "Publishing", "Done"]
STAGES = get_args(Stage)


class Progress:
    """The trainer's status. Written by the training thread, read by the server's."""

    def __init__(
        self,
        run: str,
        *,
        checkpoints: list[NamedCheckpoint] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.status = TrainerStatus(stage="Loading", updated_at=datetime.now(UTC))
        self.history: list[dict[str, Any]] = []
        """One entry a step: step, epoch, tokens, seconds, the metrics under our names, and as `health` the rules that
        are broken."""
        self.seconds: dict[str, float] = {}
        """Stage -> seconds spent in it."""
        self.held_out: Metrics = {}
        """The latest measurement on the held-out rows while training; shown with the metrics of each step."""
        self.findings: dict[str, Any] = {}
        """What was found on the way, for report.json and the model card."""
        self.checkpoints: list[NamedCheckpoint] = [] if checkpoints is None else checkpoints
        """What is published already; a training that fails leaves it there."""
        self.registry = CollectorRegistry()
        self._gauges = _Gauges(self.registry, run)
        self._clock = clock
        self._entered = self._began = clock()
        self._first = 0

    @property
    def place(self) -> str:
        """How far it is, for a message."""
        if self.status.stage != "Training":
            return f"at stage {self.status.stage}"
        return f"at step {self.status.step} of {self.status.total_steps}"

    def enter(self, stage: Stage) -> None:
        """Begin a stage."""
        now = self._clock()
        self.seconds[self.status.stage] = self.seconds.get(self.status.stage, 0.0) + now - self._entered
        self._entered = now
        self._update(stage=stage, eta_seconds=None, tokens_per_second=None)
        say(stage)

    def resume(self, history: list[dict[str, Any]]) -> None:
        """An earlier start has taken these steps."""
        self.history = history

    def begin_training(self, *, total_steps: int) -> None:
        """The first step begins, or the one after those that an earlier start has taken."""
        self._began = self._clock() - (self.history[-1]["seconds"] if self.history else 0.0)
        self._update(total_steps=total_steps)

    def step(self, step: int, *, epoch: float, tokens: int, metrics: Metrics) -> None:
        """A step is done; `tokens` were trained on since the beginning."""
        seconds = max(self._clock() - self._began, 1e-9)
        metrics = metrics | self.held_out
        before = self.history[-1]["tokens"] if self.history else 0
        broken = [finding.rule for finding in self.status.health]
        self.history.append(
            {"step": step, "epoch": epoch, "tokens": tokens, "seconds": round(seconds, 3), **metrics}
            | ({"health": broken} if broken else {})
        )
        self._update(
            step=step,
            epoch=round(epoch, 4),
            eta_seconds=round((self.status.total_steps - step) * seconds / step, 1),
            tokens_per_second=round(tokens / seconds, 1),
            metrics=metrics,
        )
        self._gauges.tokens.inc(tokens - before)
        self._say_step()

    def diagnosed(self, findings: Sequence[HealthFinding]) -> None:
        """These rules of health are broken now, and no others."""
        self._update(health=list(findings))
        self._gauges.diagnosed({finding.rule for finding in findings})

    def begin_sampling(self, *, done: int, total: int) -> None:
        """So many of all prompts were answered by an earlier start."""
        self._began, self._first = self._clock(), done
        self._update(step=done, total_steps=total)

    def sampled(self, done: int) -> None:
        """So many prompts are answered."""
        seconds, total = self._clock() - self._began, self.status.total_steps
        eta = (total - done) * seconds / (done - self._first)
        self._update(step=done, eta_seconds=round(eta, 1))
        if _is_tenth(done, total):
            say(f"prompt {done}/{total}")

    def published(self, checkpoints: Sequence[NamedCheckpoint]) -> None:
        """These are the named results now."""
        self.checkpoints[:] = checkpoints
        self._update(checkpoints=list(checkpoints))

    def evaluated(self, when: Literal["before", "after"], metrics: Metrics) -> None:
        """The held-out rows were measured."""
        self._gauges.evaluated(when, metrics)
        say(f"held out, {when}: " + ", ".join(f"{name} {_number(value)}" for name, value in metrics.items()))

    def _update(self, **changes: Any) -> None:
        self.status = self.status.replace(**changes, updated_at=datetime.now(UTC))
        self._gauges.show(self.status)

    def _say_step(self) -> None:
        step, total = self.status.step, self.status.total_steps
        if _is_tenth(step, total):
            say(f"step {step}/{total}, loss {_number(self.status.metrics.get('loss'))}")


class _Gauges:
    """The Prometheus side of the status: docs/metrics/trainer.md describes each."""

    def __init__(self, registry: CollectorRegistry, run: str) -> None:
        def gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(f"posttrain_trainer_{name}", text, labels, registry=registry)

        Info("posttrain_trainer_run", "The run that is trained.", registry=registry).info({"run": run})
        self.stage = Enum("posttrain_trainer_stage", "What the trainer does now.", states=STAGES, registry=registry)
        self.step = gauge("step", "Optimizer steps done.")
        self.total_steps = gauge("total_steps", "Optimizer steps planned; 0 while unknown.")
        self.epoch = gauge("epoch", "Passes over the data done.")
        self.eta = gauge("eta_seconds", "Seconds of training left: an estimate; NaN while unknown.")
        self.speed = gauge("tokens_per_second", "Tokens trained on in a second, averaged over the training.")
        self.metric = gauge("metric", "The latest training metric; NaN where it is not a number.", ("metric",))
        self.evaluation = gauge("evaluation", "A metric on the held-out rows.", ("metric", "when"))
        self.health = gauge("health", "1 where a rule of health is broken.", ("rule",))
        self.tokens = Counter("posttrain_trainer_tokens", "Tokens trained on.", registry=registry)

    def show(self, status: TrainerStatus) -> None:
        """Show a status."""
        self.stage.state(status.stage)
        self.step.set(status.step)
        self.total_steps.set(status.total_steps)
        self.epoch.set(status.epoch or 0.0)
        self.eta.set(_or_nan(status.eta_seconds))
        self.speed.set(status.tokens_per_second or 0.0)
        for name, value in status.metrics.items():
            self.metric.labels(name).set(_or_nan(value))

    def diagnosed(self, broken: set[str]) -> None:
        """Show which of all rules of health are broken."""
        for rule in CONDITIONS.values():
            self.health.labels(rule.value).set(rule.value in broken)

    def evaluated(self, when: str, metrics: Metrics) -> None:
        """Show a measurement on the held-out rows."""
        for name, value in metrics.items():
            self.evaluation.labels(name, when).set(_or_nan(value))


def serve(progress: Progress, port: int, *, address: str = "") -> ThreadingHTTPServer:
    """Answer GET /status and GET /metrics in a thread; port 0 takes any free one. Close it with shutdown()."""

    class Handler(BaseHTTPRequestHandler):
        """GET /status: a TrainerStatus. GET /metrics: for Prometheus."""

        def do_GET(self) -> None:
            if self.path == "/status":
                self._answer(200, "application/json", json.dumps(progress.status.to_json()).encode())
            elif self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest(progress.registry))
            else:
                self._answer(404, "text/plain", b"there are /status and /metrics\n")

        def log_message(self, *_: object) -> None:
            """A poll every other second is no news."""

        def _answer(self, code: int, content_type: str, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer((address, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="status", daemon=True).start()
    return server


def _is_tenth(step: int, total: int) -> bool:
    """Whether a step completes another tenth of all."""
    return step * 10 // total != (step - 1) * 10 // total


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _number(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.4g}"


def say(text: str) -> None:
    """Tell whoever reads the log."""
    print(text, file=sys.stderr, flush=True)
