"""The ML Metadata store under processes that write at the same time, from its creation on."""

from __future__ import annotations

import os
import traceback
from typing import TYPE_CHECKING

from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration.portable.mlmd import execution_lib
from tfx.types import standard_artifacts

from ct.training.metadata import open_store

if TYPE_CHECKING:
    from pathlib import Path

WRITES = 25
PROCESSES = 4


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    """Every process registers and publishes executions as TFX's launcher does, and all of it is there afterwards."""
    database = tmp_path / "metadata.db"
    pids = [_publish_in_fork(database) for _ in range(PROCESSES)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert codes == [0] * PROCESSES
    with open_store(database) as handle:
        executions = handle.store.get_executions()
        assert len(handle.store.get_artifacts()) == WRITES * PROCESSES
    assert len(executions) == WRITES * PROCESSES
    assert {execution.last_known_state for execution in executions} == {metadata_store_pb2.Execution.COMPLETE}


def _publish_in_fork(database: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        for number in range(WRITES):
            _publish(database, f"{os.getpid()}-{number}")
        code = 0
    except BaseException:  # noqa: BLE001  the fork must not run on in pytest's frames
        traceback.print_exc()
    finally:
        os._exit(code)


def _publish(database: Path, name: str) -> None:
    kind = metadata_store_pb2.ExecutionType(name="Node")
    with open_store(database) as handle:
        running = metadata_store_pb2.Execution.RUNNING
        execution = execution_lib.prepare_execution(handle, kind, running, {"a": 1}, execution_name=name)
        execution = execution_lib.put_execution(handle, execution, [])
    with open_store(database) as handle:
        model = standard_artifacts.Model()
        model.uri = f"/{name}"
        (execution,) = handle.store.get_executions_by_id([execution.id])
        execution.last_known_state = metadata_store_pb2.Execution.COMPLETE
        execution_lib.put_execution(handle, execution, [], output_artifacts={"model": [model]})
