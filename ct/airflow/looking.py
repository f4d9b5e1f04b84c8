"""A pipeline's scanner, from what is deployed and what Airflow knows of its connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowRuntimeError

from ct.airflow.scan import INCOMPLETE_AFTER_S, Scanner
from ct.errors import SourceError
from ct.sources.connection import Connection
from ct.sources.opening import connection_id, open_source

if TYPE_CHECKING:
    from ct.config import PipelineConfig
    from ct.home import Home
    from ct.triggers.ledger import Ledger

MISSING = (AirflowNotFoundException, AirflowRuntimeError)


def scanner_of(
    config: PipelineConfig,
    home: Home,
    ledger: Ledger,
    connection: Connection | None,
    *,
    incomplete_after_s: float = INCOMPLETE_AFTER_S,
) -> Scanner:
    """A scanner of the source that the pipeline is configured with.

    Raises:
        SourceError: the source cannot be opened.
    """
    return Scanner(
        config.name,
        open_source(config, home, connection),
        ledger,
        config.source,
        home.fetched(config.name),
        incomplete_after_s=incomplete_after_s,
    )


def connection_of(config: PipelineConfig) -> Connection | None:
    """The source's connection; for tasks, which may wait.

    Raises:
        SourceError: Airflow does not have it.
    """
    name = connection_id(config.source)
    if name is None:
        return None
    try:
        return Connection.of(BaseHook.get_connection(name))
    except MISSING as error:
        raise _missing(config, name) from error


async def connection_of_async(config: PipelineConfig) -> Connection | None:
    """The source's connection; for the triggerer's event loop.

    Raises:
        SourceError: Airflow does not have it.
    """
    name = connection_id(config.source)
    if name is None:
        return None
    try:
        return Connection.of(await BaseHook.aget_connection(name))
    except MISSING as error:
        raise _missing(config, name) from error


def _missing(config: PipelineConfig, name: str) -> SourceError:
    return SourceError(
        f'The source of pipeline "{config.name}" needs the Airflow connection "{name}", and Airflow does not have it. '
        "Nothing was looked at. Create it in Airflow's UI under Admin, Connections; docs/sources.md says what belongs in it.",
        pipeline=config.name,
        connection=name,
    )
