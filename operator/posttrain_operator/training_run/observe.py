"""What there is of a run: its children as the watches say, and what its trainer says."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from posttrain_api.trainer_contract import TrainerStatus
from posttrain_api.v1alpha1.training_run import DEFAULT_CLAIM, KIND
from posttrain_operator import followed_run, jobs
from posttrain_operator.actions import Manifest
from posttrain_operator.followed_run import FollowedRun
from posttrain_operator.jobs import NOTHING, JobSeen
from posttrain_operator.kind import Tools
from posttrain_operator.store import Key, key_of
from posttrain_operator.training_run import names, sources


@dataclass(frozen=True)
class Observed:
    """Everything that plan() may know of the cluster; recipe and Jobs are those of the present round."""

    recipe: Manifest | None = None
    policy: Manifest | None = None
    preflight: JobSeen = NOTHING
    training: JobSeen = NOTHING
    trainer: TrainerStatus | None = None
    """What the trainer said last, while it runs."""
    has_default_claim: bool = False
    upstream: Mapping[str, FollowedRun] = field(default_factory=dict)
    """By name: the runs that it names, and those that they wait for."""
    merges: Mapping[str, JobSeen] = field(default_factory=dict)
    """The Jobs that merge this run's own adapters into their base, by name."""
    is_awaited: bool = False
    """Another object names it and has not got yet what it needs of it."""
    leftovers: tuple[Manifest, ...] = ()
    """Objects of an earlier run of the same name, which the garbage collector has not reached yet."""


async def observe(run: Manifest, *, tools: Tools) -> Observed:
    """Gather what there is of a run."""
    metadata = run["metadata"]
    name, namespace = metadata["name"], metadata["namespace"]
    children = tools.store.children(key_of(run))
    uid = metadata["uid"]
    own = {(child["kind"], child["metadata"]["name"]): child for child in children if jobs.is_owned(child, uid)}
    round = (run.get("status") or {}).get("round", 0)
    training = jobs.seen(own.get(("Job", names.training(name, round))), children)
    return Observed(
        recipe=own.get(("ConfigMap", names.recipe(name, round))),
        policy=own.get(("NetworkPolicy", names.policy(name))),
        preflight=jobs.seen(own.get(("Job", names.preflight(name, round))), children),
        training=training,
        trainer=await _trainer(training, tools=tools),
        has_default_claim=tools.store.get(Key("PersistentVolumeClaim", namespace, DEFAULT_CLAIM)) is not None,
        upstream=_upstream(run, tools=tools),
        merges=followed_run.merges(uid, children),
        is_awaited=_is_awaited(run, tools=tools),
        leftovers=tuple(child for child in children if _is_leftover(child, uid=uid)),
    )


def references(run: Manifest) -> Iterable[Key]:
    """The runs that this one names, while it may still wait for them."""
    if "finishedAt" in (run.get("status") or {}):
        return ()
    namespace = run["metadata"]["namespace"]
    return [Key(KIND, namespace, reference.name) for reference in sources.references(run["spec"])]


def _upstream(run: Manifest, *, tools: Tools) -> dict[str, FollowedRun]:
    found: dict[str, FollowedRun] = {}
    wanted = list(references(run))
    while wanted:
        key = wanted.pop()
        named = None if key.name in found else followed_run.seen(tools.store.get(key), tools.store.children(key))
        if named:
            found[key.name] = named
            wanted += references(named.manifest)
    return found


def _is_awaited(run: Manifest, *, tools: Tools) -> bool:
    name = run["metadata"]["name"]
    followers = (tools.store.get(key) for key in tools.store.followers(key_of(run)))
    return any(followed_run.is_awaiting(follower, name) for follower in followers if follower)


def _is_leftover(child: Manifest, *, uid: str) -> bool:
    controller = jobs.controller(child)
    return controller.get("kind") == KIND and controller["uid"] != uid


async def _trainer(training: JobSeen, *, tools: Tools) -> TrainerStatus | None:
    if training.pod is None:
        return None
    uid, address = training.pod["metadata"]["uid"], training.pod["status"].get("podIP")
    if training.is_running and address:
        return await tools.pods.trainer_status(uid, address)
    tools.pods.forget([uid])
    return None
