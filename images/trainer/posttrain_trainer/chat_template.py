"""Which chat template a run trains with: its own, the one of what it builds on, or the base's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posttrain_api.conditions import Reason
from posttrain_api.v1alpha1.environment import ChatTemplate
from posttrain_trainer.places import Places
from posttrain_trainer.refusal import Refused

FILE = "chat_template.jinja"
"""Where an artifact holds its chat template."""
_MISSING = (
    "neither the base nor the run has a chat template: write environment.chatTemplate.inline or .configMap, "
    "a Jinja template that renders `messages`"
)


def chosen(template: ChatTemplate | None, tokenizer: Any, places: Places) -> str | None:
    """The run's chat template, else the base's, else None."""
    if template is None:
        return _own_template(tokenizer)
    if template.inline is not None:
        return template.inline
    assert template.config_map is not None
    try:
        return places.key(template.config_map).read_text()
    except (OSError, UnicodeDecodeError) as error:
        name = f"ConfigMap {template.config_map.name}, key {template.config_map.key}"
        raise Refused(Reason.CHAT_TEMPLATE_MISSING, f"the chat template cannot be read: {name}: {error}") from error


def shared(adapters: Mapping[str, Path]) -> str | None:
    """The chat template that adapters, by their runs' names, were trained with; Refused where they differ."""
    found = {name: (folder / FILE).read_text() for name, folder in adapters.items() if (folder / FILE).is_file()}
    if len(set(found.values())) > 1:
        raise Refused(
            Reason.ADAPTERS_DIFFER,
            f"merge.runs: {' and '.join(sorted(found))} were trained with different chat templates: write the one to "
            "judge and to serve the merge with as environment.chatTemplate",
        )
    return next(iter(found.values()), None)


def _own_template(tokenizer: Any) -> str | None:
    template = tokenizer.chat_template
    named = template.get("default") if isinstance(template, dict) else template
    return named or None


def require(template: str | None) -> str:
    """The template; Refused where there is none."""
    if template is None:
        raise Refused(Reason.CHAT_TEMPLATE_MISSING, _MISSING)
    return template
