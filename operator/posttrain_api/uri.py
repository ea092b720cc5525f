"""Where models, data and artifacts lie: `pvc://claim/path` and `file:///path`.

A pod mounts a claim below CLAIMS_ROOT, so that each URI has one path that operator, trainer and server agree on.
"""

from pathlib import PurePosixPath
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field

from posttrain_api.model import rule, rules

CLAIMS_ROOT = PurePosixPath("/var/lib/posttrain/claims")

_CLAIM = r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"
_NO_PARENT = rule("!self.split('/').exists(s, s == '..')", "`..` is not allowed in a path: write the path in full")


class Location(NamedTuple):
    """A parsed URI: the claim (None for file://) and the path in it, or from the root, without a leading slash."""

    claim: str | None
    path: str


def parse(uri: str) -> Location:
    """Split a `pvc://` or `file://` URI; ValueError says what to write instead."""
    scheme, _, rest = uri.partition("://")
    if ".." in rest.split("/"):
        raise ValueError(f"{uri}: `..` is not allowed in a path: write the path in full")
    if scheme == "pvc" and rest.split("/")[0]:
        claim, _, path = rest.partition("/")
        return Location(claim, path.strip("/"))
    if scheme == "file" and rest.startswith("/"):
        return Location(None, rest.strip("/"))
    raise ValueError(f"{uri}: use pvc://claim/path or file:///path")


def local_path(uri: str) -> PurePosixPath:
    """The path at which a pod of ours, or a process without a cluster, finds what a URI names."""
    location = parse(uri)
    if location.claim is None:
        return PurePosixPath("/") / location.path
    return CLAIMS_ROOT / location.claim / location.path


def claim_of(uri: str) -> str | None:
    """The name of the PersistentVolumeClaim in a URI, None where there is none."""
    return parse(uri).claim


def child(uri: str, *names: str) -> str:
    """The URI of something below a URI."""
    return "/".join([uri.rstrip("/"), *names])


def _check_readable(uri: str) -> str:
    parse(uri)
    return uri


def _check_claim(uri: str) -> str:
    if parse(uri).claim is None:
        raise ValueError(f"{uri}: an artifact must outlive its pod: use pvc://claim/path")
    return uri


ReadableUri = Annotated[
    str,
    AfterValidator(_check_readable),
    Field(
        max_length=512,
        json_schema_extra=rules(
            rule(rf"self.matches('^(pvc://{_CLAIM}(/.*)?|file:///.+)$')", "use pvc://claim/path or file:///path"),
            _NO_PARENT,
        ),
    ),
]
"""A URI that our pods can read."""

WritableUri = Annotated[
    str,
    AfterValidator(_check_claim),
    Field(
        max_length=512,
        json_schema_extra=rules(
            rule(
                rf"self.matches('^pvc://{_CLAIM}(/.*)?$')",
                "an artifact must outlive its pod: use pvc://claim/path",
            ),
            _NO_PARENT,
        ),
    ),
]
"""A URI that our pods can write to and that outlives them."""
