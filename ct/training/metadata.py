"""The pipeline's ML Metadata store (SQLite), safe for nodes that run at the same time and for nodes that run again."""

from __future__ import annotations

import fcntl
import shutil
from typing import IO, TYPE_CHECKING, Any

from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration import metadata
from tfx.orchestration.portable.mlmd import context_lib, execution_lib
from typing_extensions import Self

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from tfx.proto.orchestration import pipeline_pb2

_SUCCEEDED = (metadata_store_pb2.Execution.COMPLETE, metadata_store_pb2.Execution.CACHED)


class Store(metadata.Metadata):  # type: ignore[misc]
    """TFX's handle of the store, held by one process at a time.

    MLMD's transactions on SQLite fail at once when two processes write. TFX opens its handle only for moments, never while
    an executor runs, so a file lock (`metadata.db.lock`) around each opening costs nothing. A killed process lets it go.
    """

    def __init__(self, database: Path) -> None:
        super().__init__(metadata.sqlite_metadata_connection_config(str(database)))
        self._lock_path = database.with_name(database.name + ".lock")
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> Self:
        if self._lock is None:
            self._lock = self._lock_path.open("ab")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            super().__enter__()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> None:
        super().__exit__(exc_type, exc_value, exc_tb)
        if self._users == 0:
            self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def forget_earlier_attempt(store: Store, node: pipeline_pb2.PipelineNode, node_folder: Path) -> bool:
    """Make a node of a run runnable again, whatever became of its earlier attempt.

    TFX does not run a node whose execution in this run has succeeded, and otherwise takes up the execution and its output
    folders again. Here the earlier outputs are marked deleted, so that downstream nodes see only the new ones, their
    folders go, and the execution is new again.

    Args:
        store: the pipeline's store.
        node: the node, with the run's id substituted.
        node_folder: `<pipeline root>/<node id>`; only folders below it are removed.

    Returns:
        True when there was an earlier attempt.
    """
    with store as handle:
        executions = _executions(handle, node)
        for execution in executions:
            outputs = execution_lib.get_output_artifacts(handle, execution.id)
            artifacts = [artifact.mlmd_artifact for artifacts in outputs.values() for artifact in artifacts]
            for artifact in artifacts:
                artifact.state = metadata_store_pb2.Artifact.DELETED
            handle.store.put_artifacts(artifacts)
            execution.last_known_state = metadata_store_pb2.Execution.NEW
            handle.store.put_executions([execution])
            for folder in node_folder.glob(f"*/{execution.id}"):
                shutil.rmtree(folder)
            shutil.rmtree(node_folder / ".system" / "executor_execution" / str(execution.id), ignore_errors=True)
    return bool(executions)


def has_succeeded(store: Store, node: pipeline_pb2.PipelineNode) -> bool:
    """Whether the node has an execution in this run that succeeded. TFX's launcher does not say so itself."""
    with store as handle:
        return any(execution.last_known_state in _SUCCEEDED for execution in _executions(handle, node))


def _executions(handle: Store, node: pipeline_pb2.PipelineNode) -> list[Any]:
    contexts = context_lib.prepare_contexts(metadata_handle=handle, node_contexts=node.contexts)
    found: list[Any] = execution_lib.get_executions_associated_with_all_contexts(handle, contexts)
    return found
