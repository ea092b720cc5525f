"""Watches a training that learns from rewards: adds the numbers that its method does not give, and asks the rules."""

import math
import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import TrainerCallback

from posttrain_api.v1alpha1.health import CONDITIONS, Health, HealthFinding
from posttrain_api.v1alpha1.training_run_status import Metrics
from posttrain_trainer.model import Precision
from posttrain_trainer.progress import Progress, say
from posttrain_trainer.rl import health
from posttrain_trainer.rl.best_weights import BestWeights
from posttrain_trainer.rl.probe import Probe
from posttrain_trainer.rl.samples import Sample, Scored

_MAX_PROBES = 50
"""Steps of a training at which the distance from the start is measured, at most."""
_SEEN_AT_ONCE, _MAX_SEEN = 8, 1024
"""Answers that are kept of each generation, and in all."""


_GENERATED = "rolloutSeconds"
"""What only the first of the steps has that learn from the same answers."""
_SPENT = "Seconds"
"""What the names of numbers end with that a generation has once, and not in each step that learns from it."""


class Monitor(TrainerCallback):
    """The health of one training: told of every generation and of every step, it says whether to go on."""

    def __init__(
        self, rules: Health, progress: Progress, *, pad: int, precision: Precision, keeps_best: bool = True
    ) -> None:
        """`keeps_best`: nothing else keeps the best weights of the training."""
        self.has_stopped = False
        """A rule with action Stop is broken: no step follows."""
        self.has_restored = False
        """The model has got the weights back that answered best."""
        self.seen: deque[dict[str, Any]] = deque(maxlen=_MAX_SEEN)
        """Some answers of each generation with their scores, for people to read: the latest, the newest last."""
        self._rules = rules
        self._progress = progress
        self._pad = pad
        self._precision = precision
        self._best = BestWeights() if keeps_best else None
        self._judged_by: str | None = None
        self._probe: Probe | None = None
        self._model: Any = None
        self._shown: Metrics = {}
        self._kl: float | None = None
        self._history: list[dict[str, Any]] = []
        self._is_fresh = True
        self._findings: dict[str, HealthFinding] = {}
        self._last_broken: dict[str, int] = {}
        progress.diagnosed([])

    def begin(self, start: Any, samples: Sequence[Sample]) -> None:
        """The model as it is before the first step, and what it has answered."""
        self._probe = Probe(start, samples, pad=self._pad, precision=self._precision)

    def resume(self, history: Sequence[Mapping[str, Any]]) -> None:
        """An earlier start of this training has taken these steps; what it answered best with is lost."""
        for step in history:
            self._is_fresh = _GENERATED in step
            self._remember(step["step"], step)

    def generated(self, model: Any, scored: Sequence[Scored], shown: Metrics) -> None:
        """The model, as it is now, has given these answers, which the next steps learn from; `shown`: what its answers
        show, under our names."""
        if self._probe is None:
            self.begin(model, [one.sample for one in scored])
        self._model = model
        self._shown = {"entropy": _surprise(scored)} | {
            name: value for name, value in shown.items() if not name.endswith(_SPENT)
        }
        self._is_fresh = True
        self.seen.extend(one.line for one in scored[:_SEEN_AT_ONCE])
        self._keep_best(model)

    def step(self, step: int, metrics: Metrics) -> Metrics:
        """A step is done: its metrics, with what its generation shows and with what the method does not give."""
        found = self._shown | self._distance(step, metrics) | metrics
        self._remember(step, found)
        self._judge(step)
        return found

    def on_train_end(self, _args: Any, _state: Any, _control: Any, *, model: Any, **_: Any) -> None:
        """Give the model of a training that was stopped the weights that answered best."""
        if self.has_stopped and self._best is not None:
            self.has_restored = self._best.give_back(model)
            if self.has_restored:
                best = {"bestStep": self._best.step, "bestValue": self._best.value, "metric": self._judged_by}
                self._progress.findings["bestAnswers"] = best

    def _keep_best(self, model: Any) -> None:
        if self._judged_by is None:
            self._judged_by = next((name for name in ("success", "reward") if name in self._shown), None)
        value = self._shown.get(self._judged_by or "")
        if self._best is not None and value is not None:
            status = self._progress.status
            self._best.answered(model, value, step=status.step, total_steps=status.total_steps)

    def _distance(self, step: int, metrics: Metrics) -> Metrics:
        """kl, where the method does not give it: what it was when it was measured last."""
        if "kl" in metrics or self._probe is None:
            return {}
        every = max(self._progress.status.total_steps // _MAX_PROBES, 1)
        if self._kl is None or step % every == 0:
            self._kl = _finite(self._probe.distance(self._model))
        return {"kl": self._kl}

    def _remember(self, step: int, metrics: Mapping[str, Any]) -> None:
        """The steps that learn from the same answers are one: a window is to hold so many generations."""
        before = {} if self._is_fresh or not self._history else self._history.pop()
        self._history.append({**before, **metrics, "step": step})
        self._is_fresh = False

    def _judge(self, step: int) -> None:
        for name, message in health.broken(self._history).items():
            self._found(name, message, step)
        for name in list(self._findings):
            # A number near its bound would else raise and clear a condition at every other step.
            if step - self._last_broken[name] > health.WINDOW:
                del self._findings[name]
        self._progress.diagnosed(list(self._findings.values()))

    def _found(self, name: str, message: str, step: int) -> None:
        rule, before = CONDITIONS[name].value, self._findings.get(name)
        stops = getattr(self._rules, name) == "Stop"
        first = step if before is None else before.step
        self._findings[name] = HealthFinding(rule=rule, message=message, step=first, stopped=stops)
        self._last_broken[name] = step
        self.has_stopped |= stops
        if before is None:
            say(f"{rule}, {'stopped' if stops else 'seen'} at step {step}: {message}")


def _surprise(scored: Sequence[Scored]) -> float | None:
    """Nats a token: how unlikely the tokens were that the model wrote, which is its entropy but for chance."""
    written = [
        log_probability
        for one in scored
        for log_probability, own in zip(
            one.sample.log_probabilities, one.sample.own or [1] * len(one.sample.token_ids), strict=True
        )
        if own
    ]
    return _finite(-statistics.fmean(written)) if written else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
