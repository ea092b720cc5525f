"""environment.tools of a run: what the model may call before it answers, and how it is told of that."""

from posttrain_api.conditions import Reason
from posttrain_api.v1alpha1.environment import Tools as Named
from posttrain_trainer.data import Message
from posttrain_trainer.places import Places
from posttrain_trainer.refusal import Refused
from posttrain_trainer.rewards.apart import Apart, CallFailed
from posttrain_trainer.rewards.session import Tools
from posttrain_trainer.rewards.tool_call import CLOSE, OPEN
from posttrain_trainer.sandbox.limits import Limits
from posttrain_trainer.template import ChatFormat

_MARK = "posttrain"


def of(named: Named, places: Places, apart: Apart) -> Tools:
    """A user's tools, ready to begin."""
    return Tools(apart, places.code(named), named.entrypoint, Limits(seconds=named.timeout_seconds))


def check(named: Named, places: Places, chat: ChatFormat) -> None:
    """Refused where the class cannot be used, or the chat template does not tell a model of tools and their results."""
    with Apart(places.rewards_socket) as apart, of(named, places, apart) as tools:
        try:
            described = tools.describe()
        except CallFailed as error:
            raise Refused(Reason.REWARD_INVALID, f"environment.tools: {error}") from error
    if not described:
        raise Refused(Reason.REWARD_INVALID, f"environment.tools: {named.entrypoint} has no public method: write one")
    text = chat.render([{"role": "user", "content": _MARK}], tools=described, add_generation_prompt=True)
    untold = [name for tool in described if (name := tool["function"]["name"]) not in text]
    if untold or OPEN not in text:
        raise Refused(
            Reason.CHAT_TEMPLATE_INVALID,
            f"environment.tools: the chat template does not tell the model of {', '.join(untold) or 'how to call'}: "
            "give one in environment.chatTemplate that writes `tools`, and that calls stand between "
            f"{OPEN} and {CLOSE}",
        )
    suffix(chat, "done")


def suffix(chat: ChatFormat, said: str) -> str:
    """What the template writes behind a turn that calls: the tool's words, and where the assistant goes on; Refused
    where it leaves them out."""
    turns: list[Message] = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _MARK}]
    text = chat.render([*turns, {"role": "tool", "content": said}], add_generation_prompt=True)
    end = chat.tokenizer.decode(chat.end_of_turn[:1])
    behind = text.partition(_MARK)[2].partition(end)[2]
    if said not in behind:
        raise Refused(
            Reason.CHAT_TEMPLATE_INVALID,
            "environment.tools: the chat template leaves out messages with the role tool: give one in "
            "environment.chatTemplate that writes them",
        )
    return behind
