"""The behavioural proof as arithmetic."""

import pytest

from posttrain_api.artifact import Probe
from posttrain_server.agent import proof
from posttrain_server.agent.proof import Served

PROBES = [
    Probe(token_ids=[1, 2, 3], base=[-2.0, -3.0], result=[-1.0, -0.5]),
    Probe(token_ids=[4, 5], base=[-4.0], result=[-4.5]),
]
BASE, RESULT = [[-2.0, -3.0], [-4.0]], [[-1.0, -0.5], [-4.5]]


def shifted(rows: list[list[float]], by: float) -> list[list[float]]:
    return [[value + by for value in row] for row in rows]


@pytest.mark.parametrize(
    ("served", "allowed", "failure"),
    [
        pytest.param(Served(BASE, RESULT), 0.002, None, id="as recorded"),
        pytest.param(Served(shifted(BASE, 1e-3), shifted(RESULT, 1e-3)), 0.002, None, id="rounded a little"),
        pytest.param(Served(shifted(BASE, 0.1), shifted(RESULT, 0.1)), 0.15, None, id="half precision"),
        pytest.param(Served(BASE, BASE), 0.002, "it changes nothing", id="no module matched"),
        pytest.param(
            Served(BASE, [[-1.7, -2.4], [-4.1]]), 0.002, "nearer to the base's", id="a weak copy of the adapter"
        ),
        pytest.param(
            Served(BASE, [[-3.0, -5.5], [-3.5]]), 0.002, "nearer to the base's", id="the adapter with its sign turned"
        ),
        pytest.param(Served(BASE, shifted(RESULT, 0.1)), 0.002, "0.002 are allowed", id="almost, but other weights"),
        pytest.param(
            Served(shifted(BASE, 0.5), shifted(RESULT, 0.5)),
            0.15,
            "the base itself answers 0.5000 nats",
            id="another base underneath",
        ),
    ],
)
def test_verdict(served: Served, allowed: float, failure: str | None):
    found = proof.judge(PROBES, served, allowed=allowed).failure
    assert (found is None) == (failure is None)
    assert (failure or "") in (found or "")


@pytest.mark.parametrize(
    ("manifest", "engine", "tolerance"),
    [
        ("float32", "float32", proof.FULL_TOLERANCE),
        ("float32", "bfloat16", proof.HALF_TOLERANCE),
        ("bfloat16", "bfloat16", proof.HALF_TOLERANCE),
        ("float16", "float32", proof.HALF_TOLERANCE),
    ],
)
def test_tolerance_is_that_of_the_coarser_precision(manifest, engine, tolerance: float):
    assert proof.tolerance(manifest, engine) == tolerance


def test_probes_longer_than_the_engine_takes_are_cut_and_still_prove():
    assert proof.prompts(PROBES, max_length=3) == [[1, 2], [4, 5]]
    cut = Served(base=[[-2.0], [-4.0]], adapter=[[-1.0], [-4.5]])
    assert proof.judge(PROBES, cut, allowed=0.002).failure is None
