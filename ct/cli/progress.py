"""How `ct up` shows each process becoming healthy: a table that lives at a terminal, a line an event elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from types import TracebackType

    from rich.live import Live
    from rich.table import Table
    from typing_extensions import Self

REACHED = ("healthy", "ready")


class StartProgress:
    """Told of each step by `ct.daemon.up`; a context manager, because a live display has an end."""

    def __init__(self, *, live: bool | None = None) -> None:
        self.told = False
        """Whether anything was started at all."""
        self._states: dict[str, tuple[str, float]] = {}
        self._live: Live | None = None
        if sys.stdout.isatty() if live is None else live:
            from rich.console import Console  # noqa: PLC0415
            from rich.live import Live  # noqa: PLC0415

            self._live = Live(console=Console(highlight=False), get_renderable=self._table, refresh_per_second=8)

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, name: str, state: str, seconds: float) -> None:
        """A process, or the database, reached a state so many seconds after the start."""
        self.told = True
        self._states[name] = (state, seconds)
        if not self._live and state != "starting":
            click.echo(f"  {seconds:5.1f} s  {name} is {state}")

    def _table(self) -> Table:
        from rich.spinner import Spinner  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415

        table = Table.grid(padding=(0, 2))
        for name, (state, seconds) in self._states.items():
            if state in REACHED:
                table.add_row("[green]✓[/green]", name, f"{state} after {seconds:.1f} s")
            else:
                table.add_row(Spinner("dots"), name, state)
        return table
