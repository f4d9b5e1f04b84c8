"""What happens in a run, said once each: a node that has ended, and that a person is asked."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from ct.cli.runs import waiting_line, waits_for_person
from ct.contracts import NodeResult

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ct.home import Home
    from ct.triggers.records import RunRecord


class RunProgress:
    """Says what is new in a run since the last look.

    Args:
        home: where the run's folder is.
        say: takes a line.
    """

    def __init__(self, home: Home, say: Callable[[str], object]) -> None:
        self._home = home
        self._say = say
        self._seen: dict[Path, int] = {}
        """A node that is tried again writes its file again."""
        self._asked = False

    def look(self, run: RunRecord) -> None:
        """Say each node that ended since, oldest first, and the question that the run waits with."""
        new: list[tuple[int, NodeResult]] = []
        for path in (self._home.runs / run.run_id).glob("*.result.json"):
            with suppress(FileNotFoundError):  # the node is being tried again
                at = path.stat().st_mtime_ns
                if self._seen.get(path) != at:
                    new.append((at, NodeResult.model_validate_json(path.read_bytes())))
                    self._seen[path] = at
        for _, result in sorted(new, key=lambda found: found[0]):
            self._say(f"  {result.node_id} {result.seconds:.1f} s{'' if result.ok else f', failed: {result.message}'}")
        question = waits_for_person(self._home, run)
        if question is not None and not self._asked:
            self._say(f"  {waiting_line(run.pipeline, question)}")
        self._asked = question is not None
