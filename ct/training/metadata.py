"""The pipeline's ML Metadata store, and how a node that ran before is made to run again."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration import metadata
from tfx.orchestration.portable.mlmd import context_lib, execution_lib

if TYPE_CHECKING:
    from pathlib import Path

    from tfx.proto.orchestration import pipeline_pb2

_SUCCEEDED = (metadata_store_pb2.Execution.COMPLETE, metadata_store_pb2.Execution.CACHED)


def open_store(database: Path) -> metadata.Metadata:
    """A handle of the store in this SQLite file, which need not exist. MLMD itself waits for other processes' writes."""
    return metadata.Metadata(metadata.sqlite_metadata_connection_config(str(database)))


def forget_earlier_attempt(store: metadata.Metadata, node: pipeline_pb2.PipelineNode, node_folder: Path) -> bool:
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
            artifacts = _outputs(handle, execution.id)
            for artifact in artifacts:
                artifact.state = metadata_store_pb2.Artifact.DELETED
            handle.store.put_artifacts(artifacts)
            execution.last_known_state = metadata_store_pb2.Execution.NEW
            handle.store.put_executions([execution])
            for folder in node_folder.glob(f"*/{execution.id}"):
                shutil.rmtree(folder)
            shutil.rmtree(node_folder / ".system" / "executor_execution" / str(execution.id), ignore_errors=True)
    return bool(executions)


def has_succeeded(store: metadata.Metadata, node: pipeline_pb2.PipelineNode) -> bool:
    """Whether the node has an execution in this run that succeeded. TFX's launcher does not say so itself."""
    with store as handle:
        return any(execution.last_known_state in _SUCCEEDED for execution in _executions(handle, node))


def _outputs(handle: metadata.Metadata, execution_id: int) -> list[Any]:
    """Artifacts of every attempt. TFX's own `get_output_artifacts` takes those of two attempts for one list with gaps."""
    events = handle.store.get_events_by_execution_ids([execution_id])
    outputs = [event.artifact_id for event in events if event.type == metadata_store_pb2.Event.OUTPUT]
    found: list[Any] = handle.store.get_artifacts_by_id(outputs) if outputs else []
    return found


def _executions(handle: metadata.Metadata, node: pipeline_pb2.PipelineNode) -> list[Any]:
    contexts = context_lib.prepare_contexts(metadata_handle=handle, node_contexts=node.contexts)
    found: list[Any] = execution_lib.get_executions_associated_with_all_contexts(handle, contexts)
    return found
