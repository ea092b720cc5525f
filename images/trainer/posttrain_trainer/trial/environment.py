"""What can be known of an environment here: one finding for each thing that was looked at."""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from posttrain_api.environment_report import EnvironmentReport, Finding
from posttrain_api.trainer_contract import EXIT_DONE, RunConfig
from posttrain_trainer.places import Places
from posttrain_trainer.refusal import Refused, Stop
from posttrain_trainer.run import read_config

Look = Callable[[], Finding | None]
"""Finds something, or nothing where there is nothing to look at; may be refused."""


def main(options: argparse.Namespace) -> int:
    """Try the environment of the run in a file, and write what was found."""
    stop = Stop()
    stop.listen()
    found = tried(read_config(options.test_environment), Places.of(options), stop, has_model=options.with_model)
    _write(found, options.termination_message)
    return EXIT_DONE


def tried(config: RunConfig, places: Places, stop: Stop, *, has_model: bool) -> EnvironmentReport:
    """Everything that was found; what another finding rests on comes before it, and ends the rest where it is wrong."""
    findings: list[Finding] = []
    for what, look in _looks(config, places, stop, has_model):
        found = _found(what, look)
        if found is not None:
            findings.append(found)
            if found.verdict == "wrong" and what == "rows":
                break
    return EnvironmentReport(findings=findings)


def _looks(config: RunConfig, places: Places, stop: Stop, has_model: bool) -> Iterator[tuple[str, Look]]:
    """What is looked at, in its order. Only a model needs torch, which takes seconds."""
    if not has_model:
        sys.modules["torch"] = None  # type: ignore[assignment]
    from posttrain_trainer.trial import rewards, rows

    yield "rows", lambda: rows.rows(config, places)
    yield "held-out rows", lambda: rows.held_out(config, places)
    yield "steps", lambda: rows.steps_of(config, places)
    yield "rewards", lambda: rewards.rewards(config, places)
    if config.recipe.environment.tools is not None and not has_model:
        yield "tools", _without_model
    if has_model:
        from posttrain_trainer.trial import model

        tried_model = model.Model(config, places, stop)
        yield "lengths", tried_model.lengths
        if config.recipe.environment.tools is not None:
            yield "tools", tried_model.tools
        yield "signal", tried_model.signal


def _without_model() -> Finding:
    return Finding(what="tools", verdict="skipped", message="a chat template tells of them: give a model by --model")


def _found(what: str, look: Look) -> Finding | None:
    try:
        return look()
    except Refused as error:
        return Finding(what=what, verdict="wrong", message=f"{error.reason.value}: {error}")


def _write(found: EnvironmentReport, path: Path | None) -> None:
    text = found.model_dump_json(exclude_none=True)
    if path is None:
        print(text)
    else:
        path.write_text(text)
