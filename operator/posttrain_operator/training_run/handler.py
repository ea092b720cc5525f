"""TrainingRun for the core: observe, then plan."""

from posttrain_api.v1alpha1.training_run import KIND
from posttrain_operator.actions import Manifest, Plan
from posttrain_operator.kind import Kind, Tools
from posttrain_operator.kube import Refused
from posttrain_operator.training_run.observe import observe, references
from posttrain_operator.training_run.plan import Refusal, plan


def kind(tools: Tools) -> Kind:
    """The kind TrainingRun."""

    async def decide(run: Manifest, refused: Refused | None) -> Plan:
        observed = await observe(run, tools=tools)
        refusal = Refusal(refused.message, refused.is_final) if refused else None
        return plan(run, observed, settings=tools.settings, now=tools.clock(), refusal=refusal)

    return Kind(KIND, decide, references)
