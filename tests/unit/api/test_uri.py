"""URIs: what names a place, and what is refused with a hint."""

import pytest

from posttrain_api import uri


@pytest.mark.parametrize(
    ("text", "path"),
    [
        pytest.param("pvc://data/a/b.jsonl", "/var/lib/posttrain/claims/data/a/b.jsonl", id="file on a claim"),
        pytest.param("pvc://data", "/var/lib/posttrain/claims/data", id="a whole claim"),
        pytest.param("pvc://data/", "/var/lib/posttrain/claims/data", id="a claim with a trailing slash"),
        pytest.param("file:///models/tiny", "/models/tiny", id="in the image"),
    ],
)
def test_a_uri_has_one_path(text: str, path: str):
    assert str(uri.local_path(text)) == path


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        pytest.param("pvc://data/../secret", "`..` is not allowed", id="out of the claim"),
        pytest.param("file:///models/../etc/passwd", "`..` is not allowed", id="out of the folder"),
        pytest.param("file://models/tiny", "use pvc://claim/path or file:///path", id="two slashes"),
        pytest.param("pvc:///a", "use pvc://claim/path or file:///path", id="no claim"),
        pytest.param("/models/tiny", "use pvc://claim/path or file:///path", id="a bare path"),
        pytest.param("hf://org/name", "use pvc://claim/path or file:///path", id="a scheme that is not there yet"),
    ],
)
def test_a_wrong_uri_says_what_to_write(text: str, hint: str):
    with pytest.raises(ValueError, match=hint):
        uri.parse(text)
