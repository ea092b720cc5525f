"""What the trainer finds without a GPU, as a process of its own on this machine: the CLI itself imports none of it."""

import json
import os
import subprocess
from pathlib import Path

from pydantic import ValidationError

from posttrain_api.environment_report import EnvironmentReport
from posttrain_api.trainer_contract import Failure as TrainerFailure
from posttrain_api.trainer_contract import PreflightReport, Report, RunConfig
from posttrain_cli import report_table
from posttrain_cli.failure import Failure, one_line
from posttrain_cli.workplace import Workplace

MODULE = "posttrain_trainer"
PREFLIGHT_FILE = "preflight.json"


def preflight(config: RunConfig, place: Workplace, *, python: str) -> PreflightReport | TrainerFailure:
    """What preflight finds of a run, or why it refuses it; Failure where there is no trainer to ask."""
    run_file, message_file = _files(config, place)
    options = ["--preflight", "--config", str(run_file)]
    complaints = _run([python, "-m", MODULE, *options, *_places(message_file, place)])
    try:
        report = Report.model_validate_json(message_file.read_bytes())
    except (OSError, ValidationError) as problem:
        raise Failure(_without_report(complaints, python)) from problem
    if report.failure is not None:
        return report.failure
    # The whole of it: a termination message is shortened to what a kubelet keeps.
    written = place.output / config.name / config.uid / PREFLIGHT_FILE
    return report_table.parsed(json.loads(written.read_bytes()))


def environment_test(config: RunConfig, place: Workplace, *, python: str, with_model: bool) -> EnvironmentReport:
    """What is found of a run's environment, with the base model only where that is here; Failure where there is no
    trainer to ask."""
    run_file, report_file = _files(config, place)
    options = ["--test-environment", str(run_file), *(["--with-model"] if with_model else [])]
    complaints = _run([python, "-m", MODULE, *options, *_places(report_file, place)])
    try:
        return EnvironmentReport.model_validate_json(report_file.read_bytes())
    except (OSError, ValidationError) as problem:
        raise Failure(_without_report(complaints, python)) from problem


def _files(config: RunConfig, place: Workplace) -> tuple[Path, Path]:
    """The run as a file, and where its report is written."""
    run_file, message_file = place.folder / "run.json", place.folder / "report.json"
    run_file.write_text(config.model_dump_json(exclude_none=True))
    message_file.unlink(missing_ok=True)
    return run_file, message_file


def _places(message_file: Path, place: Workplace) -> list[str]:
    roots = {"--claims-root": place.claims, "--config-maps-root": place.config_maps, "--image-root": place.image}
    return ["--termination-message", str(message_file), *(str(part) for root in roots.items() for part in root)]


def _run(command: list[str]) -> str:
    """Run it to its end; what it complained of."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    try:
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except OSError as problem:
        raise Failure(f"--python {command[0]}: cannot be started: {problem.strerror}") from problem
    return done.stderr


def _without_report(complaints: str, python: str) -> str:
    last = one_line((complaints.strip().splitlines() or ["it ended without a word"])[-1])
    if "No module named" in last:
        return (
            f"{python} has no trainer ({last}): install posttrain[trainer] there, or name a Python that has it by "
            "--python"
        )
    return f"the trainer ended without a report: {last}"
