"""The program as pods start it: instant help, one report at the end, an exit code that says what kind of end."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer import builders

from posttrain_api import trainer_contract
from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import Report
from posttrain_trainer import __main__ as command
from posttrain_trainer import run
from posttrain_trainer.refusal import Stop

HEAVY = ("torch", "transformers", "trl", "peft", "datasets", "pydantic", "prometheus_client")


@pytest.fixture
def given(base: Path, tmp_path: Path) -> dict[str, Any]:
    """A good run.json, as JSON."""
    dataset = builders.json_lines(tmp_path / "rows.jsonl", builders.exchanges(20))
    return builders.run(base, dataset).to_json()


def outcome(folder: Path, given: object, *options: str, stop: Stop | None = None) -> tuple[Report, int]:
    """What the program says of a run.json, preflight only."""
    path = folder / "run.json"
    path.write_text(given if isinstance(given, str) else json.dumps(given))
    arguments = ["--config", str(path), "--claims-root", str(folder / "claims"), *options]
    return run.outcome(command.parser().parse_args(arguments), stop or Stop())


def process(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, which finds our packages where this one does."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        cwd=folder,
        env=environment,
    )


def test_help_is_instant_because_it_loads_nothing() -> None:
    program = (
        "import sys, runpy\nsys.argv = ['posttrain_trainer', '--help']\n"
        "try:\n runpy.run_module('posttrain_trainer', run_name='__main__')\n"
        f"finally:\n print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = process(program, Path.cwd())
    assert done.stdout.startswith("usage: python -m posttrain_trainer")
    assert done.stdout.splitlines()[-1] == "[]"


def test_preflight_is_a_small_process_that_ends_with_one_line_of_json(given: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(given))
    program = (
        "import sys\nfrom posttrain_trainer.__main__ import main\n"
        "code = main(['--config', 'run.json', '--claims-root', 'claims', '--preflight'])\n"
        "print([name for name in ('trl', 'peft', 'datasets') if name in sys.modules], sys.modules['torch'], code)"
    )
    done = process(program, tmp_path)
    report, modules = done.stdout.splitlines()
    assert modules == f"[] None {trainer_contract.EXIT_DONE}"
    found = Report.model_validate_json(report)
    assert found.preflight is not None
    assert found.preflight.estimate.rows == 19
    assert (found.uid, found.failure, done.stderr) == (builders.UID, None, "")


def test_an_unknown_key_is_named(given: dict[str, Any], tmp_path: Path) -> None:
    given["recipe"]["hyperparameters"]["learning_rte"] = 1
    report, code = outcome(tmp_path, given)
    assert code == trainer_contract.EXIT_REFUSED
    assert report.failure is not None
    assert report.failure.reason == Reason.INVALID_SPEC
    assert "recipe.hyperparameters.learning_rte: Extra inputs are not permitted" in report.failure.message


@pytest.mark.parametrize("content", ["{", "[]", '{"uid": "x"}'])
def test_a_file_that_is_no_run_is_refused(tmp_path: Path, content: str) -> None:
    report, code = outcome(tmp_path, content)
    assert (report.failure is not None and report.failure.reason, code) == (Reason.INVALID_SPEC, 3)


def test_a_missing_run_is_refused(tmp_path: Path) -> None:
    options = command.parser().parse_args(["--config", str(tmp_path / "none.json")])
    report, code = run.outcome(options, Stop())
    assert report.failure is not None
    assert (report.failure.message, code) == (f"{tmp_path}/none.json: cannot be read: No such file or directory", 3)


def test_a_refusal_is_a_report_with_its_own_exit_code(given: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("")
    report, code = outcome(tmp_path, given)
    assert report.to_json() == {
        "uid": builders.UID,
        "recipeDigest": report.recipe_digest,
        "failure": {
            "reason": "DatasetInvalid",
            "message": f"file://{tmp_path}/rows.jsonl: the dataset is empty: write one JSON object a line",
            "checkpoints": [],
        },
    }
    assert code == trainer_contract.EXIT_REFUSED


def test_a_stop_is_a_report_with_its_own_exit_code(given: dict[str, Any], tmp_path: Path) -> None:
    stop = Stop()
    stop.requested = True
    report, code = outcome(tmp_path, given, stop=stop)
    assert report.failure is not None
    assert (report.failure.reason, code) == (Reason.TRAINER_STOPPED, trainer_contract.EXIT_STOPPED)


def test_what_nobody_expected_is_a_report_too(
    given: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("", 0)) as taken:
        report, code = outcome(tmp_path, given, "--status-port", str(taken.getsockname()[1]))
    assert report.failure is not None
    assert (report.failure.reason, code) == (Reason.TRAINER_FAILED, trainer_contract.EXIT_UNEXPECTED)
    assert report.failure.message == "OSError: [Errno 98] Address already in use"
    assert "Traceback" in capsys.readouterr().err


def test_an_output_that_fills_up_is_refused(given: dict[str, Any], tmp_path: Path) -> None:
    taken = tmp_path / "claims" / "out" / "double"
    taken.parent.mkdir(parents=True)
    taken.write_text("a file where the run's folder should be")
    report, code = outcome(tmp_path, given)
    assert report.failure is not None
    assert (report.failure.reason, code) == (Reason.OUTPUT_UNWRITABLE, trainer_contract.EXIT_REFUSED)
    assert report.failure.message.startswith(f"output pvc://out: {taken} cannot be written: Not a directory: check")


def test_the_message_goes_where_the_kubelet_looks(given: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("")
    (tmp_path / "run.json").write_text(json.dumps(given))
    message = tmp_path / "termination-log"
    arguments = ["--config", str(tmp_path / "run.json"), "--claims-root", str(tmp_path), "--termination-message"]
    assert command.main([*arguments, str(message)]) == trainer_contract.EXIT_REFUSED
    failure = Report.model_validate_json(message.read_bytes()).failure
    assert failure is not None
    assert failure.reason == Reason.DATASET_INVALID
