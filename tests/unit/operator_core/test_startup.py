"""kopf is a trigger only: it must have nothing to write on anybody's object."""

import kopf
import pytest

from posttrain_api.meta import PodTemplate
from posttrain_operator import startup
from posttrain_operator.intake import Intake
from posttrain_operator.kube import OWNERS, WATCHED
from posttrain_operator.queue import Queue
from posttrain_operator.settings import Settings, from_environment
from posttrain_operator.store import Key, Store

REQUIRED = {"POSTTRAIN_TRAINER_IMAGE": "trainer:1", "POSTTRAIN_SERVER_IMAGE": "server:1"}


async def never(_: Key) -> float | None:
    raise AssertionError("the queue is not open")


def registry() -> kopf.OperatorRegistry:
    return startup.registry(Intake(store=Store(), queue=Queue(never), kinds={}))


async def test_kopf_has_no_handler_that_writes() -> None:
    handlers = registry()

    assert not handlers._changing.get_all_selectors()
    assert not handlers._spawning.get_all_selectors()
    assert len(handlers._watching.get_all_selectors()) == len(WATCHED)


@pytest.mark.parametrize(("namespaces", "disabled"), [((), False), (("team",), True)], ids=["cluster", "namespaces"])
def test_namespaces_and_crds_are_watched_only_with_rights_on_the_cluster(
    namespaces: tuple[str, ...], *, disabled: bool
) -> None:
    chosen = startup.kopf_settings(Settings(trainer_image="t", server_image="s", watch_namespaces=namespaces))

    assert chosen.scanning.disabled is disabled
    assert chosen.posting.enabled is False
    assert chosen.peering.standalone is True
    assert len(chosen.watching.label_selectors) == len(WATCHED) - len(OWNERS)


def test_settings_come_from_the_environment() -> None:
    given = {"POSTTRAIN_WATCH_NAMESPACES": "a,b", "POSTTRAIN_DEFAULT_POD_TEMPLATE": '{"runtimeClassName": "nvidia"}'}

    settings = from_environment({**REQUIRED, **given})

    assert settings.watch_namespaces == ("a", "b")
    assert settings.default_pod_template == PodTemplate(runtime_class_name="nvidia")


def test_a_missing_image_is_named() -> None:
    with pytest.raises(KeyError, match="POSTTRAIN_TRAINER_IMAGE"):
        from_environment({})
