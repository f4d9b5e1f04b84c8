"""How a run ended, read from what its nodes left in the run's folder, and written into the ledger. Imports no Airflow."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ct.contracts import NodeResult, Outcome, RunRequest
from ct.triggers.records import RunStatus, SkipCause
from ct.verdict_page.record import GATE, REGISTER, approval_of
from ct.verdict_page.words import answered

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ct.contracts import Approval
    from ct.home import Home
    from ct.triggers.ledger import Ledger

TRAINER = "Trainer"
BAD_SPAN, BAD_DATA = "SpanRefusedError", "DataAnomalyError"
CAUSES = {BAD_SPAN: SkipCause.UNREADABLE_SPAN, BAD_DATA: SkipCause.SCHEMA_BREAK}
"""Errors of nodes that say: the data is the cause, and no other try helps."""
STATUSES = {
    Outcome.APPROVED: RunStatus.APPROVED,
    Outcome.REFUSED: RunStatus.REFUSED,
    Outcome.INCONCLUSIVE: RunStatus.INCONCLUSIVE,
}
ANOMALY_OF_SPLIT = re.compile(r"(train|eval): ")
"""How ExampleValidator's facts begin each anomaly."""


@dataclass(frozen=True)
class Ending:
    """How a run ended."""

    status: RunStatus
    message: str
    version: int | None = None
    refused: Mapping[str, str] = field(default_factory=dict)
    """Span -> why its data cannot be trained on."""
    cause: SkipCause | None = None
    """Of a run that was skipped."""


def close_run(home: Home, ledger: Ledger, run_id: str, *, failed_tasks: Iterable[str]) -> Ending:
    """Write the end of a run into the ledger. Doing it again changes nothing.

    Args:
        home: Where the run's folder is.
        ledger: Where the end is written.
        run_id: The run.
        failed_tasks: The tasks that Airflow calls failed, in the order in which they ran.
    """
    ending = ending_of(
        read_request(home, run_id), read_results(home, run_id), tuple(failed_tasks), approval_of(home, run_id)
    )
    ledger.finish_run(
        run_id,
        ending.status,
        message=ending.message,
        version=ending.version,
        cause=ending.cause,
        refused=ending.refused,
    )
    return ending


def stopped_by_data(home: Home, run_id: str, nodes: Iterable[str]) -> str | None:
    """Why a run ended early when the data is the cause, or None.

    Args:
        home: Where the run's folder is.
        run_id: The run.
        nodes: Those whose results count: what a node needs.
    """
    results = read_results(home, run_id)
    found = (results[node] for node in nodes if node in results and is_stop(results[node]))
    stop = next(found, None)
    return None if stop is None else f"{stop.node_id} stopped the run before training: {stop.message}"


def ending_of(
    request: RunRequest | None,
    results: Mapping[str, NodeResult],
    failed_tasks: tuple[str, ...],
    approval: Approval | None = None,
) -> Ending:
    """How a run with these results, and with what a person answered where one was asked, ended.

    A run that its data stopped before training is skipped: nothing failed, and nothing was wasted. Any other run with a
    failed task failed, also when its gate had approved. A run without one whose gate never spoke failed too: somebody ended
    it before that. A candidate that was approved and then withheld, because its refit does not agree with it, is refused.
    """
    stops = [result for result in results.values() if is_stop(result)]
    if stops and not _is_done(results, TRAINER) and not _is_done(results, GATE):
        refused = {} if request is None else refused_spans(request, stops[0])
        cause = CAUSES[stops[0].error_type or ""]
        return Ending(RunStatus.SKIPPED, stops[0].message, refused=refused, cause=cause)
    bad = [results[task] for task in failed_tasks if task in results and not results[task].ok]
    if bad:
        refused = {} if request is None else refused_spans(request, bad[0])
        return Ending(RunStatus.FAILED, bad[0].message or f"{bad[0].node_id} failed", refused=refused)
    gate = results.get(GATE)
    if failed_tasks:
        return Ending(RunStatus.FAILED, f"{failed_tasks[0]} failed; its log in Airflow says why")
    if gate is None or not gate.ok:
        return Ending(RunStatus.FAILED, "it was ended before its gate had judged")
    return _of_verdict(gate, results.get(REGISTER), approval)


def refused_spans(request: RunRequest, result: NodeResult) -> dict[str, str]:
    """The spans that a failed node found to be untrainable, with the reason; empty for any other failure.

    An anomaly in the `eval` split is that of a span to judge on, one in `train` is one of the others': there the new ones
    are taken out, because the rest have passed before.
    """
    names = [span.name for span in request.spans]
    if result.error_type == BAD_SPAN:
        refused = dict(result.facts.get("refused", {}))
        return {name: str(refused[name]) for name in names if name in refused}
    if result.error_type != BAD_DATA:
        return {}
    found = [str(anomaly) for anomaly in result.facts.get("anomalies", ())]
    splits = {match.group(1) for match in map(ANOMALY_OF_SPLIT.match, found) if match}
    judged = [span.name for span in request.judged]
    new = [name for name in names if name in request.new_spans]
    learnt = [name for name in new if name not in judged]
    of_eval = [name for name in judged if name in new] or judged
    taken_out = [*(learnt if "train" in splits else ()), *(of_eval if "eval" in splits or request.holdout else ())]
    return dict.fromkeys(taken_out, "; ".join(found) or result.message)


def _of_verdict(gate: NodeResult, register: NodeResult | None, approval: Approval | None) -> Ending:
    """The end of a run in which nothing failed: the gate's outcome, unless a person or the refit had another say."""
    version = None if register is None else register.facts.get("version")
    if register is not None and register.facts.get("withheld"):
        return Ending(RunStatus.REFUSED, register.message, version=version)
    reason = str(gate.facts.get("reason", gate.message))
    if approval is None:
        return Ending(STATUSES[Outcome(gate.facts["outcome"])], reason, version=version)
    status = RunStatus.APPROVED if approval.approved else RunStatus.REFUSED
    return Ending(
        status, f"{answered(approval)} by {approval.by}: {approval.reason}. The gate: {reason}", version=version
    )


def is_stop(result: NodeResult) -> bool:
    """Whether a node ended the run because of its data."""
    return not result.ok and result.error_type in CAUSES


def _is_done(results: Mapping[str, NodeResult], node: str) -> bool:
    return node in results and results[node].ok


def read_request(home: Home, run_id: str) -> RunRequest | None:
    """None when the run ended before its request was written."""
    try:
        return RunRequest.model_validate_json(home.request_path(run_id).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def read_results(home: Home, run_id: str) -> dict[str, NodeResult]:
    """Node -> what it left in the run's folder."""
    results = {}
    for path in sorted((home.runs / run_id).glob("*.result.json")):
        try:
            result = NodeResult.model_validate_json(path.read_text(encoding="utf-8"))
        except (ValidationError, FileNotFoundError):
            continue  # written by another version, or replaced right now by a retry
        results[result.node_id] = result
    return results
