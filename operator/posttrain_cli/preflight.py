"""`kubectl posttrain preflight`: the report that a run's preflight left on the output's claim."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kubernetes import client, watch
from pydantic import ValidationError
from rich.console import Console

from posttrain_api import labels
from posttrain_api.v1alpha1 import training_run
from posttrain_cli import connect, report_pod, report_table
from posttrain_cli.connect import Connection
from posttrain_cli.failure import Failure, one_line

Object = dict[str, Any]


def show(connection: Connection, name: str, console: Console, *, as_table: bool, timeout_seconds: int) -> int:
    """Print the report of this run as JSON or as a table; Failure where there is none."""
    run = connect.named(connection, training_run.KIND, training_run.PLURAL, name)
    report_pod.check_validated(run)
    with connection.explained():
        text = read(connection, run, timeout_seconds=timeout_seconds)
    try:
        found = json.loads(text)
        shown = report_table.table(report_table.parsed(found), title=f"trun/{name}") if as_table else None
    except (ValueError, ValidationError) as problem:
        raise Failure(f"trun/{name}: its report is none of this version's: {one_line(str(problem))[:300]}") from problem
    if shown is not None:
        console.print(shown)
    else:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    return 0


def read(connection: Connection, run: Object, *, timeout_seconds: int) -> bytes:
    """The content of a run's preflight.json. Raises ApiException; Failure where the pod that reads it cannot."""
    name = run["metadata"]["name"]
    # Any: the library's types know neither a dict as a body nor an answer that is not read yet.
    core: Any = client.CoreV1Api(connection.client)
    with _pod(core, connection.namespace, report_pod.pod(run, _job(connection, name))) as reader:
        _wait(core, connection.namespace, reader, timeout_seconds)
        log = core.read_namespaced_pod_log(reader, connection.namespace, _preload_content=False)
        content: bytes = log.data
    return content


def _job(connection: Connection, run: str) -> Object:
    selector = f"{labels.TRAINING_RUN}={run},{labels.COMPONENT}=preflight"
    batch: Any = client.BatchV1Api(connection.client)
    found = batch.list_namespaced_job(connection.namespace, label_selector=selector, _preload_content=False)
    return report_pod.newest(json.loads(found.data)["items"], run)


@contextmanager
def _pod(core: Any, namespace: str, manifest: Object) -> Iterator[str]:
    """The name of the pod for as long as the block lasts; it is deleted whatever happens."""
    made = core.create_namespaced_pod(namespace, manifest)
    name: str = made.metadata.name
    try:
        yield name
    finally:
        core.delete_namespaced_pod(name, namespace, grace_period_seconds=0)


def _wait(core: Any, namespace: str, name: str, timeout_seconds: int) -> None:
    """Until the pod has done its work; Failure where it cannot, or not in time."""
    events = watch.Watch().stream(  # type: ignore[no-untyped-call]
        core.list_namespaced_pod,
        namespace,
        field_selector=f"metadata.name={name}",
        timeout_seconds=timeout_seconds,
    )
    last: Object = {}
    for event in events:
        last = event["raw_object"]
        if event["type"] == "DELETED":
            raise Failure(f"pod/{name}, which reads the report, was deleted")
        if verdict := report_pod.verdict(last):
            if not verdict.is_good:
                raise Failure(f"pod/{name} cannot read the report: {verdict.why}")
            return
    raise Failure(
        f"pod/{name} has not read the report within {timeout_seconds} s: {report_pod.waits_for(last)}: "
        "say --timeout for more"
    )
