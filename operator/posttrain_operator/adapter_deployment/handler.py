"""The kind AdapterDeployment for the core: parse, observe, plan."""

from pydantic import ValidationError

from posttrain_api.v1alpha1 import adapter_deployment
from posttrain_api.v1alpha1.adapter_deployment import AdapterDeployment
from posttrain_operator.actions import Manifest, Plan
from posttrain_operator.adapter_deployment import observe, plan
from posttrain_operator.kind import Kind, Tools
from posttrain_operator.kube import Refused


def kind(tools: Tools) -> Kind:
    """AdapterDeployment, with what it remembers while this process lives."""
    tokens = observe.Tokens(tools)

    async def decide(manifest: Manifest, refused: Refused | None) -> Plan:
        try:
            # The status is ours, and may be that of another version: an unreadable one is no fault of the user's.
            parent = AdapterDeployment.model_validate({**manifest, "status": {}})
        except ValidationError as problem:
            return plan.refuse(manifest, problem, now=tools.clock())
        observed = await observe.observed(parent, manifest, refused=refused, tokens=tokens, tools=tools)
        return plan.plan(parent, observed=observed, settings=tools.settings, now=tools.clock())

    return Kind(adapter_deployment.KIND, decide, observe.references)
