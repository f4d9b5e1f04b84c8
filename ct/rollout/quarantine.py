"""Versions that must not serve again: which, why, and since when. A lift ends a quarantine and stays on record.

::

    models/<name>/
      quarantine.json   {"records": [QuarantineRecord, ...]}, oldest first
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from ct.contracts import Check, CheckOutcome, Lift, QuarantineRecord, Value
from ct.errors import RolloutError
from ct.home import write_atomically
from ct.rollout.locks import writing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from ct.rollout.store import ModelStore


class _Records(Value):
    records: tuple[QuarantineRecord, ...] = ()


class QuarantineFile:
    """The file in one model's folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "quarantine.json"

    def read(self) -> tuple[QuarantineRecord, ...]:
        """Every record, lifted ones too, oldest first.

        Raises:
            RolloutError: the file cannot be read. To go on without it could let a bad version serve again.
        """
        try:
            return _Records.model_validate_json(self._path.read_bytes()).records
        except FileNotFoundError:
            return ()
        except (OSError, ValidationError) as error:
            raise RolloutError(
                f'Which versions of "{self._path.parent.name}" are in quarantine is not known: {self._path} cannot be read. '
                f"Nothing was changed. Restore the file, or move it away to begin with an empty quarantine.",
                path=str(self._path),
            ) from error

    def add(self, record: QuarantineRecord) -> None:
        """Add a record, on disk when this returns. One of the same rollback is not added again, also when it was lifted."""
        records = self.read()
        if all(known.generation != record.generation for known in records):
            self._write((*records, record))

    def lift(self, version: int, lift: Lift) -> None:
        """End the quarantine of a version, on disk when this returns."""
        self._write(
            tuple(
                known.model_copy(update={"lifted": lift}) if _holds(known, version) else known for known in self.read()
            )
        )

    def _write(self, records: tuple[QuarantineRecord, ...]) -> None:
        write_atomically(self._path, _Records(records=records).model_dump_json(indent=2))


def quarantined(store: ModelStore) -> tuple[QuarantineRecord, ...]:
    """What is in quarantine now, oldest first; that of a change which waits for the workers too.

    Raises:
        RolloutError: quarantine.json cannot be read.
    """
    return tuple(record for record in store.quarantine_records() if record.lifted is None)


def quarantine_check(store: ModelStore, fingerprints: Sequence[str]) -> Check:
    """The gate's check that a candidate is not made from the very inputs of a version that was withdrawn.

    Args:
        store: the model's.
        fingerprints: the candidate's, as contracts.RunRequest makes them.

    Returns:
        A blocking check; its value is how many versions in quarantine were made from these inputs.

    Raises:
        RolloutError: quarantine.json cannot be read.
    """
    same = [record for record in quarantined(store) if set(record.fingerprints) & set(fingerprints)]
    told = ", ".join(f"version {record.version} ({record.by}: {record.reason})" for record in same)
    name = "not made from the inputs of a version in quarantine"
    return Check(
        name=f"{name}: {told}; see ct quarantine {store.name}" if same else name,
        metric="versions in quarantine from these inputs",
        value=float(len(same)),
        threshold=0.0,
        outcome=CheckOutcome.FAIL if same else CheckOutcome.PASS,
    )


def lift_quarantine(store: ModelStore, version: int, *, by: str, reason: str, at: datetime) -> QuarantineRecord:
    """Let a version be rolled out again, and candidates from its inputs be approved. Changes nothing that serves.

    The registry is noted to be behind; `ct.rollout.resume` tells it.

    Returns:
        The record that was lifted.

    Raises:
        RolloutError: the version is not in quarantine, or quarantine.json cannot be read.
    """
    with writing(store):
        store.settle()
        held = [record for record in store.quarantine_records() if _holds(record, version)]
        if not held:
            others = ", ".join(str(record.version) for record in quarantined(store)) or "none"
            raise RolloutError(
                f'Version {version} of "{store.name}" is not in quarantine (in quarantine: {others}). Nothing was changed.',
                name=store.name,
                version=version,
            )
        store.note_registry_behind()
        store.lift(version, Lift(at=at, by=by, reason=reason))
    return held[-1]


def _holds(record: QuarantineRecord, version: int) -> bool:
    return record.version == version and record.lifted is None
