"""The model store: version folders, which version should serve, which does, and the history. Files only.

contracts.VersionManifest draws the layout. Everything that another process reads is replaced atomically, so a rollout or a
rollback needs no server but the ones that serve.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ct.contracts import DesiredState, Proof, QuarantineRecord, VersionManifest
from ct.errors import RolloutError, UnknownVersionError
from ct.home import write_atomically
from ct.rollout.history_file import HistoryFile
from ct.rollout.journal import JournalFile
from ct.rollout.pins import PinsFile
from ct.rollout.quarantine import QuarantineFile
from ct.rollout.registry import BehindFile, is_told
from ct.rollout.workers import live_workers, report_worker

if TYPE_CHECKING:
    from ct.contracts import HistoryEntry, Lift, WorkerState
    from ct.home import Home
    from ct.rollout.journal import Journal
    from ct.rollout.plan import Facts

CHUNK_BYTES = 1 << 20
"""What is read of a file at a time to hash it."""


class ModelStore:
    """The folder of one model under `CT_HOME/models`."""

    def __init__(self, home: Home, name: str) -> None:
        self.name = name
        self.root = home.models / name
        self._history = HistoryFile(self.root)
        self._journal = JournalFile(self.root)
        self._quarantine = QuarantineFile(self.root)
        self._pins = PinsFile(self.root)
        self._behind = BehindFile(self.root)

    def versions(self) -> tuple[int, ...]:
        """The versions whose folders are complete, in numeric order."""
        names = (path.parent.name for path in self.root.glob("versions/[0-9]*/manifest.json"))
        return tuple(sorted(int(name) for name in names if name.isdecimal()))

    def version_path(self, version: int) -> Path:
        """The folder of a version, whether or not it exists."""
        return self.root / "versions" / str(version)

    def manifest(self, version: int) -> VersionManifest:
        """What a version is.

        Raises:
            UnknownVersionError: its folder is missing or not complete, or its manifest cannot be read.
        """
        path = self.version_path(version) / "manifest.json"
        try:
            return VersionManifest.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise self._unknown(version, f"its files are missing from {path.parent}") from error
        except (OSError, ValidationError) as error:
            raise self._unknown(version, f"{path} cannot be read ({_problem(error)})") from error

    def proof(self, version: int) -> Proof | None:
        """What came of proving a version; None when nobody has.

        Raises:
            RolloutError: it cannot be read.
        """
        path = self.version_path(version) / "proof.json"
        try:
            return Proof.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise RolloutError(
                f'The proof of version {version} of "{self.name}" cannot be read ({_problem(error)}). Nothing was changed, '
                f"and what serves serves on. `.venv-serving/bin/python -m serving.proof {self.name} {version}` proves it anew.",
                name=self.name,
                version=version,
            ) from error

    def desired(self) -> DesiredState | None:
        """What should serve; None before the first rollout.

        Raises:
            RolloutError: desired.json cannot be read; workers that run serve on.
        """
        path = self.root / "desired.json"
        try:
            return DesiredState.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise RolloutError(
                f'What "{self.name}" should serve is not known: {path} cannot be read ({_problem(error)}). '
                f"Workers that run serve on, new ones would not know what. Remove the file, then run "
                f"`ct rollout {self.name} --version V` with the version that `ct history {self.name}` names.",
                name=self.name,
                path=str(path),
            ) from error

    def desire(self, state: DesiredState) -> None:
        """Change what should serve. Serving workers follow within moments."""
        write_atomically(self.root / "desired.json", state.model_dump_json())

    def desire_nothing(self) -> None:
        """Go back to before the first rollout, after its version was not taken. Serving workers that took it drop it."""
        (self.root / "desired.json").unlink()
        self._journal.clear()

    def history(self, *, pending: bool = True) -> tuple[HistoryEntry, ...]:
        """Every change, oldest first. A last line that was cut off by a crash is left out.

        A change that is desired and not in the file yet is the last one: its command waits for the workers, or was ended.

        Args:
            pending: whether that one is in it.
        """
        written = self._history.entries()
        entry = self._pending() if pending else None
        if entry is None or (written and written[-1].generation >= entry.generation):
            return written
        return (*written, entry)

    def remembered(self) -> HistoryEntry | None:
        """The newest change in the history that is not under way."""
        return next(reversed(self._history.entries()), None)

    def remember(self, entry: HistoryEntry) -> None:
        """Add a change to the history, on disk when this returns. One that is there already is not added again."""
        self._history.append(entry)

    def journal(self) -> Journal | None:
        """The change that is under way or was cut short; None when there is none."""
        return self._journal.read()

    def begin(self, journal: Journal) -> None:
        """Write a change down before it is desired, or that it is to be reverted."""
        self._journal.write(journal)

    def end(self, generation: int) -> None:
        """Take the journal of this generation's change away; another change's stays."""
        journal = self.journal()
        if journal is not None and journal.after.generation == generation:
            self._journal.clear()

    def settle(self) -> None:
        """Finish on disk what came to be desired of a change that was cut short or is overtaken; drop what did not.

        Only for the holder of the write lock. The registry is left to whoever tells it next, and noted to be behind.
        """
        pending = self._pending()
        if pending is not None:
            self.remember(pending)
            self.quarantine(pending)
            if is_told(pending):
                self._behind.write()
        self._journal.clear()

    def quarantine(self, entry: HistoryEntry) -> None:
        """Put the version that a change quarantines into quarantine, on disk when this returns. Most quarantine none."""
        record = self._record(entry)
        if record is not None:
            self._quarantine.add(record)

    def quarantine_records(self, *, pending: bool = True) -> tuple[QuarantineRecord, ...]:
        """Every quarantine, lifted ones too, oldest first; that of a change which is desired and not done yet is the last.

        Args:
            pending: whether that one is in it.

        Raises:
            RolloutError: quarantine.json cannot be read.
        """
        written = self._quarantine.read()
        entry = self._pending() if pending else None
        record = self._record(entry) if entry else None
        if record is None or any(known.generation == record.generation for known in written):
            return written
        return (*written, record)

    def quarantine_record(self, version: int) -> QuarantineRecord | None:
        """The newest quarantine of a version, in force or lifted; None when it was never in one.

        Raises:
            RolloutError: quarantine.json cannot be read.
        """
        return next((record for record in reversed(self.quarantine_records()) if record.version == version), None)

    def quarantined(self) -> tuple[int, ...]:
        """The versions that are in quarantine now, in numeric order.

        Raises:
            RolloutError: quarantine.json cannot be read.
        """
        return tuple(sorted({record.version for record in self.quarantine_records() if record.lifted is None}))

    def barred(self) -> dict[int, int]:
        """Each version that must not serve -> the one in quarantine that is why: itself, or one made from the same inputs.

        Raises:
            RolloutError: quarantine.json cannot be read.
        """
        held = [record for record in self.quarantine_records() if record.lifted is None]
        barred = {record.version: record.version for record in held}
        made_from = {fingerprint: record.version for record in held for fingerprint in record.fingerprints}
        for version in self.versions() if made_from else ():
            with suppress(UnknownVersionError):  # what cannot be read does not load either
                for fingerprint in self.manifest(version).fingerprints:
                    if fingerprint in made_from:
                        barred.setdefault(version, made_from[fingerprint])
        return barred

    def lift(self, version: int, lift: Lift) -> None:
        """End a version's quarantine. Only for the holder of the write lock; see ct.rollout.lift_quarantine."""
        self._quarantine.lift(version, lift)

    def pinned(self) -> tuple[int, ...]:
        """The versions that garbage collection keeps because somebody said so, in numeric order.

        Raises:
            RolloutError: pins.json cannot be read.
        """
        return self._pins.read()

    def pin_all(self, versions: tuple[int, ...]) -> None:
        """Replace the pins. Only for the holder of the write lock; see ct.rollout.pin."""
        self._pins.write(versions)

    @property
    def registry_behind(self) -> str | None:
        """The note that the registry is still to be told everything, another one each time that it falls behind; or None."""
        return self._behind.read()

    def note_registry_behind(self) -> None:
        """Note that it is, on disk when this returns."""
        self._behind.write()

    def note_registry_told(self) -> None:
        """Note that it has been told. Only for the holder of the write lock."""
        self._behind.remove()

    def facts(self, keep: int) -> Facts:
        """What a plan is made from.

        Args:
            keep: how many versions shall stay loaded, without canary and shadow.

        Raises:
            RolloutError: desired.json or quarantine.json cannot be read.
        """
        return {
            "desired": self.desired(),
            "history": self.history(),
            "versions": self.versions(),
            "keep": keep,
            "quarantined": self.barred(),
        }

    def reached(self) -> int:
        """The newest generation that a live worker has dealt with; 0 when there is none."""
        return max((worker.generation for worker in self.live_workers()), default=0)

    def live_workers(self) -> tuple[WorkerState, ...]:
        """What each serving worker that runs now has loaded of this model.

        A worker that runs and has not dealt with this model yet counts too, with generation 0.
        """
        return live_workers(self.root)

    def report_worker(self, state: WorkerState) -> None:
        """Say what a serving worker has loaded; called by that worker."""
        report_worker(self.root, state)

    def stage(self, saved_model: Path, manifest: VersionManifest, examples: dict[str, Any]) -> Path:
        """Put a version's files in place, the manifest last. Staging the same version again replaces its files.

        Args:
            saved_model: folder to copy; links where the file system can.
            manifest: what the version is.
            examples: `{"instances": [...], "predictions": [...]}`.

        Returns:
            The version's folder.
        """
        final = self.version_path(manifest.version)
        final.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=final.parent, prefix=f".{manifest.version}.") as name:
            unfinished = Path(name) / "version"
            shutil.copytree(saved_model, unfinished / "saved_model", copy_function=_link_or_copy)
            write_atomically(unfinished / "examples.json", json.dumps(examples))
            write_atomically(unfinished / "manifest.json", manifest.model_dump_json(indent=2))
            if final.exists():
                final.rename(Path(name) / "replaced")
            unfinished.rename(final)
        return final

    def _pending(self) -> HistoryEntry | None:
        """The entry of the change that is desired and whose journal is still there."""
        journal = self.journal()
        return journal.pending(self.desired()) if journal else None

    def _record(self, entry: HistoryEntry) -> QuarantineRecord | None:
        if entry.quarantined is None:
            return None
        try:
            fingerprints = self.manifest(entry.quarantined).fingerprints
        except UnknownVersionError:
            fingerprints = ()  # a version whose files are damaged is rolled back from all the more
        return QuarantineRecord(
            version=entry.quarantined,
            generation=entry.generation,
            fingerprints=fingerprints,
            reason=entry.reason,
            by=entry.actor,
            at=entry.at,
        )

    def _unknown(self, version: int, reason: str) -> UnknownVersionError:
        desired = self.desired()
        serving = f"Version {desired.version} is still serving" if desired else "Nothing serves yet"
        return UnknownVersionError(
            f'Cannot use version {version} of "{self.name}": {reason}. {serving}. See `ct models {self.name}`.',
            name=self.name,
            version=version,
            reason=reason,
        )


def tree_sha256(folder: Path) -> str:
    """One hash over the sorted relative paths and the bytes of every file below a folder."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


def _problem(error: OSError | ValidationError) -> str:
    return f"{error.error_count()} problems" if isinstance(error, ValidationError) else error.strerror or str(error)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
