"""CT_HOME: where all state lives, and the one place that knows its layout.

::

    .ct/
      home.json        layout version and instance id
      secrets/         0700: Airflow's keys and password
      logs/            one file a process, rotated
      run/             supervisor socket, configuration, pids
      ledger.db        spans, events and runs (SQLite), unless the setting ledger_url names another place; .lock, -wal and -shm
                       beside it belong to it
      landing/<p>/     the default landing folder of pipeline <p>
      fetched/<p>/     copies of spans that are no local files: <sha256>.<format>
      deployed/<p>/    specs by content hash (contracts.DeployedSpec)
      runs/<run_id>/   request.json and a result a node
      artifacts/<p>/   TFX artifacts; metadata.db is the pipeline's ML Metadata store
      quarantine/<p>/  rows and spans that were refused, with the reason
      scratch/         what a command writes and removes itself; what a killed one left, `ct gc` removes
      models/<name>/   the model store (contracts.VersionManifest)
      predictions/<m>/ the prediction log of model <m>, Parquet
      labels/<m>/      what really happened to its rows (ct.monitor.labels)
      monitor/<m>/     what the monitor found and decided (ct.monitor.records)
      mlflow/          mlflow.db and artifacts/
      airflow/         AIRFLOW_HOME
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from ct.errors import HomeError

LAYOUT_VERSION = 1
SOCKET_PATH_MAX = 100
"""Linux refuses Unix socket paths past 107 bytes; a margin is left for temporary names."""


def write_atomically(path: Path, text: str) -> None:
    """Replace a file's content so that a reader sees the old text or the new, never a part.

    The new text is on disk before the name changes, so it also survives a power cut.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@dataclass(frozen=True)
class Home:
    """The folders and files under CT_HOME. Making one touches no disk; `create` does."""

    root: Path

    @classmethod
    def from_environment(cls) -> Home:
        """CT_HOME where it is set, else `.ct` in the working directory."""
        return cls(Path(os.environ.get("CT_HOME") or ".ct").resolve())

    def create(self) -> Home:
        """Make the folders that are missing and check the layout version. Calling it again is safe.

        Raises:
            HomeError: another layout version wrote the folder, or it cannot be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self.secrets.mkdir(mode=0o700, exist_ok=True)
            for folder in (self.logs, self.run, self.landing, self.deployed, self.runs, self.models):
                folder.mkdir(exist_ok=True)
            if not self._marker.exists():
                write_atomically(self._marker, json.dumps({"layout": LAYOUT_VERSION, "instance": uuid.uuid4().hex}))
        except OSError as error:
            raise HomeError(
                f"CT_HOME {self.root} cannot be written: {error.strerror}. Nothing was started. "
                "Free space or choose another folder with CT_HOME.",
                home=str(self.root),
            ) from error
        self.check_layout()
        return self

    def check_layout(self) -> None:
        """Refuse a folder that another layout version wrote.

        Raises:
            HomeError: the marker is missing, unreadable, or names another version.
        """
        found = self._read_marker().get("layout")
        if found != LAYOUT_VERSION:
            raise HomeError(
                f"CT_HOME {self.root} has layout {found}, this ct reads layout {LAYOUT_VERSION}. Nothing was changed. "
                "Use the ct that wrote it, or another folder with CT_HOME.",
                home=str(self.root),
                found=found,
                expected=LAYOUT_VERSION,
            )

    def _read_marker(self) -> dict[str, object]:
        try:
            marker: dict[str, object] = json.loads(self._marker.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise HomeError(
                f"CT_HOME {self.root} is not set up. Run `ct up`, or point CT_HOME at the folder you meant.",
                home=str(self.root),
            ) from error
        except ValueError as error:
            raise HomeError(
                f"CT_HOME {self.root}: home.json is not readable ({error}). Nothing was changed. "
                "Restore it from a backup or use another folder with CT_HOME.",
                home=str(self.root),
            ) from error
        return marker

    @property
    def exists(self) -> bool:
        """True once `create` has run here."""
        return self._marker.exists()

    @property
    def instance(self) -> str:
        """The id that marks every process of this home, so that none is left behind and no other is touched."""
        return str(self._read_marker()["instance"])

    @property
    def _marker(self) -> Path:
        return self.root / "home.json"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def ledger(self) -> Path:
        return self.root / "ledger.db"

    @property
    def landing(self) -> Path:
        return self.root / "landing"

    @property
    def deployed(self) -> Path:
        return self.root / "deployed"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def scratch(self) -> Path:
        """For folders that live as long as a command, and for what `ct gc` has taken out of use and removes."""
        return self.root / "scratch"

    @property
    def tokens(self) -> Path:
        """The bearer tokens of serving, hashed."""
        return self.secrets / "tokens.json"

    def predictions(self, model: str) -> Path:
        """The prediction log of a model."""
        return self.root / "predictions" / model

    def labels(self, model: str) -> Path:
        """The labels of a model's predictions."""
        return self.root / "labels" / model

    @property
    def monitor(self) -> Path:
        """What the monitor found and decided, a folder a model."""
        return self.root / "monitor"

    @property
    def mlflow(self) -> Path:
        return self.root / "mlflow"

    @property
    def airflow(self) -> Path:
        return self.root / "airflow"

    def artifacts(self, pipeline: str) -> Path:
        """The TFX pipeline root."""
        return self.root / "artifacts" / pipeline

    def fetched(self, pipeline: str) -> Path:
        """Where copies of a pipeline's spans are, each under the hash of its bytes."""
        return self.root / "fetched" / pipeline

    def quarantine(self, pipeline: str) -> Path:
        """Where refused rows of a pipeline's spans are kept, with line numbers and reasons."""
        return self.root / "quarantine" / pipeline

    def request_path(self, run_id: str) -> Path:
        """The RunRequest of a run."""
        return self.runs / run_id / "request.json"

    def socket(self, name: str) -> Path:
        """A Unix socket's path: under run/, or in the temporary folder when that path is too long for the kernel."""
        path = self.run / f"{name}.sock"
        if len(os.fsencode(path)) <= SOCKET_PATH_MAX:
            return path
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"ct-{digest}-{name}.sock"
