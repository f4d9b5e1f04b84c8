"""What the next candidate is judged on together with the new span: the rows on which the last one was too close to tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ct.airflow.closing import read_request, read_results
from ct.contracts import TriggerKind
from ct.triggers.records import JUDGED, RunStatus
from ct.verdict_page.record import GATE

if TYPE_CHECKING:
    from ct.config import PipelineConfig
    from ct.home import Home
    from ct.triggers.ledger import Ledger


def undecided_spans(home: Home, ledger: Ledger, config: PipelineConfig) -> tuple[str, ...]:
    """Names of the spans that the last judged run was judged on, where it waits for more data; else none.

    A run whose two models could not be compared at all waits for nothing: more rows would not make that fair.
    """
    if config.gate.inconclusive != "wait":
        return ()
    judged = (run for run in ledger.runs(config.name) if run.status in JUDGED)
    last = next((run for run in judged if run.trigger is not TriggerKind.BACKFILL), None)
    if last is None or last.status is not RunStatus.INCONCLUSIVE:
        return ()
    request, gate = read_request(home, last.run_id), read_results(home, last.run_id).get(GATE)
    if request is None or gate is None or gate.facts.get("comparable") is False:
        return ()
    return tuple(span.name for span in request.judged)
