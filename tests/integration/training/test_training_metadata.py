"""The ML Metadata store under processes that write at the same time."""

from __future__ import annotations

import os
import traceback
from typing import TYPE_CHECKING

from ml_metadata.proto import metadata_store_pb2

from ct.training.metadata import Store

if TYPE_CHECKING:
    from pathlib import Path

WRITES = 60
PROCESSES = 3


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    """Every process opens the store, reads and writes it as a launcher does, and every write is there afterwards."""
    database = tmp_path / "metadata.db"
    pids = [_write_in_fork(database) for _ in range(PROCESSES)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert codes == [0] * PROCESSES
    with Store(database) as handle:
        assert len(handle.store.get_executions()) == WRITES * PROCESSES


def test_nested_use_keeps_the_lock_until_the_outermost_ends(tmp_path: Path) -> None:
    """TFX enters the same handle inside itself; that must neither wait for itself nor let others in early."""
    store = Store(tmp_path / "metadata.db")
    with store:
        with store as inner:
            inner.store.get_executions()
        store.store.get_executions()


def _write_in_fork(database: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        for number in range(WRITES):
            with Store(database) as handle:
                kind = metadata_store_pb2.ExecutionType(name="Node")
                type_id = handle.store.put_execution_type(kind)
                execution = metadata_store_pb2.Execution(type_id=type_id, name=f"{os.getpid()}-{number}")
                (execution_id,) = handle.store.put_executions([execution])
                handle.store.get_executions_by_id([execution_id])
        code = 0
    except BaseException:  # noqa: BLE001  the fork must not run on in pytest's frames
        traceback.print_exc()
    finally:
        os._exit(code)
