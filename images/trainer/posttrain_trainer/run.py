"""Carries out a command line: reads run.json, checks or trains, and ends with one report, whatever happens.

Heavy imports stand where they are needed: preflight never loads the tensor library, and the status is served before
the libraries that train are there.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from posttrain_api.artifact import digest_of
from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import (
    EXIT_DONE,
    EXIT_REFUSED,
    EXIT_STOPPED,
    EXIT_UNEXPECTED,
    Failure,
    MergeConfig,
    PreflightReport,
    Report,
    RunConfig,
)
from posttrain_api.v1alpha1.training_run_status import MergedBase, NamedCheckpoint
from posttrain_trainer import report
from posttrain_trainer.places import Places
from posttrain_trainer.refusal import Refused, Stop, Stopped


def main(options: argparse.Namespace) -> int:
    """Do what the options say, write the report, return the exit code."""
    stop = Stop()
    stop.listen()
    found, code = outcome(options, stop)
    if found.failure is not None:
        print(f"{found.failure.reason.value}: {found.failure.message}", file=sys.stderr)
    report.write(found, options.termination_message)
    return code


def outcome(options: argparse.Namespace, stop: Stop) -> tuple[Report, int]:
    """The report of a run, whatever happens to it, and the exit code."""
    found = Report(uid="", recipe_digest="")
    kept: list[NamedCheckpoint] = []
    try:
        if options.merge is not None:
            merge = read_merge(options.merge)
            found = Report(uid=merge.uid, recipe_digest=digest_of(merge.to_json()))
            return found.replace(merged=_merged(merge, Places.of(options))), EXIT_DONE
        config = read_config(options.config)
        found = Report(uid=config.uid, recipe_digest=digest_of(config.recipe.to_json()))
        return _done(config, found, options, stop, kept), EXIT_DONE
    except Refused as error:
        return _failed(found, error.reason, str(error), kept), EXIT_REFUSED
    except Stopped as error:
        return _failed(found, Reason.TRAINER_STOPPED, str(error), kept), EXIT_STOPPED
    except Exception as error:  # noqa: BLE001 - the outermost boundary: whatever it was, the operator must read of it
        traceback.print_exc()
        return _failed(found, Reason.TRAINER_FAILED, _last_line(error), kept), EXIT_UNEXPECTED


def read_config(path: Path) -> RunConfig:
    """The run in a file; Refused names the key that is wrong."""
    try:
        return RunConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise Refused(Reason.INVALID_SPEC, f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise Refused(Reason.INVALID_SPEC, f"{path}: {_problems(error, 'file')}") from error


def read_merge(text: str) -> MergeConfig:
    """The merge that JSON asks for; Refused names the key that is wrong."""
    try:
        return MergeConfig.model_validate_json(text)
    except ValidationError as error:
        raise Refused(Reason.INVALID_SPEC, f"--merge: {_problems(error, 'JSON')}") from error


def _problems(error: ValidationError, whole: str) -> str:
    return "; ".join(f"{'.'.join(str(part) for part in e['loc']) or whole}: {e['msg']}" for e in error.errors()[:5])


def _merged(config: MergeConfig, places: Places) -> MergedBase:
    from posttrain_trainer import merging

    return merging.merge(config, places)


def _done(
    config: RunConfig, found: Report, options: argparse.Namespace, stop: Stop, kept: list[NamedCheckpoint]
) -> Report:
    places = Places.of(options)
    if options.preflight:
        return found.replace(preflight=_preflight(config, places, stop))
    from posttrain_trainer import progress

    # OpenMP's threads spin while they wait, unless told: beside other work on the same cores a step took six times as
    # long. It is read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    state = progress.Progress(config.name, checkpoints=kept)
    if options.status_port is not None:
        progress.serve(state, options.status_port)
    from posttrain_trainer import training

    return found.replace(training=training.train(config, places, state, stop))


def _preflight(config: RunConfig, places: Places, stop: Stop) -> PreflightReport:
    # Preflight computes with no tensor, and transformers does without torch where there is none: its pod then takes a
    # tenth of the memory and a quarter of the time.
    sys.modules["torch"] = None  # type: ignore[assignment]
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"
    from posttrain_trainer import preflight

    return preflight.preflight(config, places, stop)


def _failed(found: Report, reason: Reason, message: str, kept: Sequence[NamedCheckpoint]) -> Report:
    text = "; ".join([message, *_left(reason, kept)])
    return found.replace(failure=Failure(reason=reason, message=text, checkpoints=kept))


def _left(reason: Reason, kept: Sequence[NamedCheckpoint]) -> Iterator[str]:
    """What a training that failed leaves, where that is in question."""
    if kept:
        names = ", ".join(found.name for found in kept)
        yield f"published before: {names}, which AdapterDeployments load by uri and digest only"
    elif reason is Reason.TRAINER_STOPPED:
        yield "nothing was published"
    elif reason is Reason.TRAINING_DIVERGED:
        yield "nothing was published: spec.checkpoints publishes the model every so many steps"


def _last_line(error: BaseException) -> str:
    return traceback.format_exception_only(error)[-1].strip()
