"""`kubectl posttrain watch`: follows runs and deployments to their end, as a table that moves or as short lines."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

from kubernetes import client
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from posttrain_api.v1alpha1 import adapter_deployment, training_run
from posttrain_cli import events, view
from posttrain_cli.events import Changed, Ended, Event, Kind, Listed, Lost, Object, Refused
from posttrain_cli.failure import Failure

KINDS = (
    Kind(training_run.KIND, training_run.PLURAL, "trun"),
    Kind(adapter_deployment.KIND, adapter_deployment.PLURAL, "adep"),
)
INTERRUPTED = 130
FRAMES_PER_SECOND = 8
LINES_AROUND_THE_TABLE = 4

Key = tuple[str, str]
"""Kind and name."""


@dataclass(frozen=True)
class Wanted:
    """A name that was given, and the kinds that it may be of."""

    kinds: tuple[Kind, ...]
    name: str

    def candidates(self) -> set[Key]:
        """What it may stand for."""
        return {(kind.name, self.name) for kind in self.kinds}

    def __str__(self) -> str:
        return f'{" or ".join(kind.name for kind in self.kinds)} "{self.name}"'


@dataclass(frozen=True)
class Verdict:
    """How it ended."""

    exit_code: int
    text: str


@dataclass
class Followed:
    """What is known of the objects that are followed."""

    namespace: str
    wanted: Sequence[Wanted]
    """Empty: every object of the namespace."""
    kinds: Sequence[Kind]
    objects: dict[Key, Object] = field(default_factory=dict)
    seen: set[Key] = field(default_factory=set)
    listed: set[str] = field(default_factory=set)
    """Kinds whose objects are known."""
    lost: set[str] = field(default_factory=set)
    """Kinds of which nothing is heard at present."""

    def take(self, event: Event) -> None:
        """Know what happened; a refusal is raised as what it is."""
        match event:
            case Refused(problem):
                raise problem
            case Ended(kind):
                raise AssertionError(f"the watch of {kind.plural} has ended")
            case Lost(kind):
                self.lost.add(kind.name)
            case Listed(kind, found):
                self._forget(kind)
                self._learn(kind, found)
            case Changed(kind, item, is_deleted):
                if is_deleted:
                    self.objects.pop(_key(kind, item), None)
                else:
                    self._learn(kind, [item])

    def is_complete(self) -> bool:
        """Whether every kind was heard of."""
        return len(self.listed) == len(self.kinds)

    def rows(self) -> list[view.Row]:
        """Runs first, then deployments, by name."""
        order = [kind.name for kind in KINDS]
        keys = sorted(self.objects, key=lambda key: (order.index(key[0]), key[1]))
        return [view.row(key[0], self.objects[key]) for key in keys]

    def verdict(self) -> Verdict | None:
        """How it ended; None while it goes on."""
        return self._missing() or self._stalled() or self._ready()

    def _forget(self, kind: Kind) -> None:
        self.objects = {key: item for key, item in self.objects.items() if key[0] != kind.name}
        self.listed.add(kind.name)
        self.lost.discard(kind.name)

    def _learn(self, kind: Kind, items: Iterable[Object]) -> None:
        asked = {key for wanted in self.wanted for key in wanted.candidates()}
        found = {_key(kind, item): item for item in items}
        kept = {key: item for key, item in found.items() if not asked or key in asked}
        self.objects |= kept
        self.seen |= kept.keys()

    def _missing(self) -> Verdict | None:
        for wanted in self.wanted:
            if not wanted.candidates() & self.objects.keys():
                why = "was deleted" if wanted.candidates() & self.seen else f"not found in namespace {self.namespace}"
                return Verdict(1, f"{wanted} {why}")
        if self.objects:
            return None
        kinds = " and no ".join(f"{kind.name}s" for kind in self.kinds)
        return Verdict(1, "everything was deleted" if self.seen else f"no {kinds} in namespace {self.namespace}")

    def _stalled(self) -> Verdict | None:
        failed = next((row for row in self.rows() if row.outcome == "Stalled"), None)
        return Verdict(1, f"{failed.name} failed: {failed.why}") if failed else None

    def _ready(self) -> Verdict | None:
        rows = self.rows()
        if any(row.outcome != "Ready" for row in rows):
            return None
        return Verdict(0, f"{rows[0].name} is ready" if len(rows) == 1 else f"all {len(rows)} are ready")


class Display(Protocol):
    """Something that shows rows as they change."""

    def show(self, followed: Followed) -> None:
        """Show what is known now."""


@dataclass
class Lines:
    """For a log: one line for each change of phase and for each ten percent."""

    console: Console
    shown: dict[str, tuple[str, int]] = field(default_factory=dict)

    def show(self, followed: Followed) -> None:
        """Print what is new."""
        for row in followed.rows():
            milestone = view.milestone(row)
            if self.shown.get(row.name) != milestone:
                self.shown[row.name] = milestone
                self.console.print(Text(view.line(row)), soft_wrap=True)


@dataclass
class Screen:
    """For a terminal: a table that is drawn anew several times a second."""

    console: Console
    namespace: str
    start: float = field(default_factory=monotonic)
    spinner: Spinner = field(default_factory=lambda: Spinner("dots", style="cyan"))
    rows: Sequence[view.Row] = ()
    is_lost: bool = False

    def show(self, followed: Followed) -> None:
        """Draw these rows from now on."""
        self.rows, self.is_lost = followed.rows(), bool(followed.lost)

    def drawn(self) -> RenderableType:
        """The table of this moment."""
        max_rows = self.console.height - LINES_AROUND_THE_TABLE
        table = view.table(self.rows, waiting=self.spinner, width=self.console.width, max_rows=max_rows)
        return Group(self._head(), table)

    def _head(self) -> Text:
        minutes, seconds = divmod(round(monotonic() - self.start), 60)
        lost = ("   the API server does not answer, trying again", "yellow") if self.is_lost else ""
        return Text.assemble((f"namespace {self.namespace}   {minutes}:{seconds:02}", "dim"), lost)


def wanted(names: Iterable[str]) -> list[Wanted]:
    """The names as given (NAME, trun/NAME, adep/NAME); Failure on another kind."""
    return [_wanted(name) for name in names]


def _wanted(text: str) -> Wanted:
    kind, slash, name = text.rpartition("/")
    if not slash:
        return Wanted(KINDS, name)
    plain = kind.lower().partition(".")[0]
    found = tuple(known for known in KINDS if plain in (known.short, known.name.lower(), known.plural))
    if not found or not name:
        raise Failure(f"{text}: write NAME, trun/NAME or adep/NAME")
    return Wanted(found, name)


def follow(
    connection: client.ApiClient,
    namespace: str,
    names: Sequence[str],
    console: Console,
    *,
    pause_seconds: float = events.PAUSE_SECONDS,
) -> int:
    """Follow these objects, or all of the namespace, until all are Ready (0) or one is Stalled, deleted or missing (1).

    Ctrl-C ends it with 130. Raises what the API server's client raises where it cannot be asked, and Failure on a
    name that is none. A lost connection is taken up again.
    """
    asked = wanted(names)
    kinds = [kind for kind in KINDS if not asked or any(kind in name.kinds for name in asked)]
    followed = Followed(namespace, asked, kinds)
    try:
        with (
            events.watching(connection, namespace, kinds, pause_seconds=pause_seconds) as happened,
            _display(console, namespace) as display,
        ):
            verdict = _until_the_end(happened, followed, display)
    except KeyboardInterrupt:
        return INTERRUPTED
    style = "bold green" if verdict.exit_code == 0 else "bold red"
    console.print(Text(verdict.text, style), soft_wrap=True)
    return verdict.exit_code


@contextmanager
def _display(console: Console, namespace: str) -> Iterator[Display]:
    if not console.is_terminal:
        yield Lines(console)
        return
    screen = Screen(console, namespace)
    with Live(get_renderable=screen.drawn, console=console, refresh_per_second=FRAMES_PER_SECOND):
        yield screen


def _until_the_end(happened: Iterator[Event], followed: Followed, display: Display) -> Verdict:
    for event in happened:
        followed.take(event)
        if followed.is_complete():
            display.show(followed)
            if verdict := followed.verdict():
                return verdict
    raise AssertionError("the watch has no end of its own")


def _key(kind: Kind, item: Object) -> Key:
    return kind.name, item["metadata"]["name"]
