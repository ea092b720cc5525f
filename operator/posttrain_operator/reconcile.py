"""One reconcile: decide by the object's kind, execute; a child that is refused becomes the object's condition."""

import logging
from collections.abc import Mapping

from posttrain_operator.actions import Manifest, Plan
from posttrain_operator.execute import ChildRefused, execute
from posttrain_operator.kind import Kind, Tools
from posttrain_operator.metrics import Metrics
from posttrain_operator.store import Key

logger = logging.getLogger(__name__)


class Reconciler:
    """Brings an object to what it says; the queue calls it."""

    def __init__(self, *, tools: Tools, kinds: Mapping[str, Kind], metrics: Metrics) -> None:
        self._tools = tools
        self._kinds = kinds
        self._metrics = metrics

    async def __call__(self, key: Key) -> float | None:
        """Reconcile once; after how many seconds to look again."""
        parent = self._tools.store.get(key)
        # What is being deleted is the garbage collector's.
        if parent is None or parent["metadata"].get("deletionTimestamp"):
            return None
        with self._metrics.reconcile(key.kind):
            plan = await self._reconcile(self._kinds[key.kind], parent)
        return plan.recheck_seconds

    async def _reconcile(self, kind: Kind, parent: Manifest) -> Plan:
        plan = await kind.decide(parent, None)
        try:
            await execute(plan, parent, tools=self._tools)
        except ChildRefused as refused:
            logger.warning("%s %s: %s", kind.name, parent["metadata"]["name"], refused)
            plan = await kind.decide(parent, refused.refusal)
            await execute(plan, parent, tools=self._tools)
        return plan
