"""The demo's stages as a person sees them: what is done now, and a time table at the end."""

import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from time import monotonic

from rich.console import Console
from rich.table import Table


@contextmanager
def limited(seconds: int, *, what: str) -> Iterator[None]:
    """TimeoutError where the block takes longer than this; for the main thread, whatever it waits for."""

    def end(_number: int, _frame: object) -> None:
        raise TimeoutError(f"{what} took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@dataclass
class Stages:
    """Stages that are done, with their lengths in seconds."""

    console: Console
    done: list[tuple[str, float]] = field(default_factory=list)
    start: float = field(default_factory=monotonic)

    @contextmanager
    def stage(self, title: str, *, shows_itself: bool = False) -> Iterator[None]:
        """Time a stage; a spinner stands for it where it shows nothing itself. One that fails is not counted."""
        start = monotonic()
        with self._sign(title, shows_itself=shows_itself):
            yield
        seconds = monotonic() - start
        self.done.append((title, seconds))
        if not shows_itself:
            self.console.print(f"[green]✓[/green] {title} [dim]{seconds:.1f} s[/dim]")

    def _sign(self, title: str, *, shows_itself: bool) -> AbstractContextManager[object]:
        if shows_itself:
            self.console.print(f"[bold]{title}[/bold]")
            return nullcontext()
        return self.console.status(title) if self.console.is_terminal else nullcontext()

    def table(self) -> Table:
        """The time table; all of it is what passed since the first moment, also between the stages."""
        made = Table(title="time", title_justify="left", box=None, show_footer=True, pad_edge=False)
        made.add_column("stage", footer="all")
        made.add_column("seconds", footer=f"{monotonic() - self.start:.1f}", justify="right")
        for title, seconds in self.done:
            made.add_row(title, f"{seconds:.1f}")
        return made
