"""How a run ended, read from what its nodes left in the run's folder, and written into the ledger. Imports no Airflow."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ct.contracts import NodeResult, Outcome, RunRequest
from ct.triggers.records import RunStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ct.home import Home
    from ct.triggers.ledger import Ledger

GATE = "Gate"
BAD_SPAN, BAD_DATA = "SpanRefusedError", "DataAnomalyError"
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


def close_run(home: Home, ledger: Ledger, run_id: str, *, failed_tasks: Iterable[str]) -> Ending:
    """Write the end of a run into the ledger. Doing it again changes nothing.

    Args:
        home: Where the run's folder is.
        ledger: Where the end is written.
        run_id: The run.
        failed_tasks: The tasks that Airflow calls failed, in the order in which they ran.
    """
    ending = ending_of(_read_request(home, run_id), _read_results(home, run_id), tuple(failed_tasks))
    for span, reason in ending.refused.items():
        ledger.refuse_span(run_id, span, reason)
    ledger.finish_run(run_id, ending.status, message=ending.message, version=ending.version)
    return ending


def ending_of(request: RunRequest | None, results: Mapping[str, NodeResult], failed_tasks: tuple[str, ...]) -> Ending:
    """How a run with these results ended.

    A run with a failed task failed, also when its gate had approved. A run without one whose gate never spoke failed
    too: somebody ended it before that.
    """
    bad = [results[task] for task in failed_tasks if task in results and not results[task].ok]
    if bad:
        refused = {} if request is None else refused_spans(request, bad[0])
        return Ending(RunStatus.FAILED, bad[0].message or f"{bad[0].node_id} failed", refused=refused)
    gate = results.get(GATE)
    if failed_tasks:
        return Ending(RunStatus.FAILED, f"{failed_tasks[0]} failed; its log in Airflow says why")
    if gate is None or not gate.ok:
        return Ending(RunStatus.FAILED, "it was ended before its gate had judged")
    status = RunStatus.APPROVED if gate.facts.get("outcome") == Outcome.APPROVED.value else RunStatus.REFUSED
    version = results["Register"].facts.get("version") if "Register" in results else None
    return Ending(status, str(gate.facts.get("reason", gate.message)), version=version)


def refused_spans(request: RunRequest, result: NodeResult) -> dict[str, str]:
    """The spans that a failed node found to be untrainable, with the reason; empty for any other failure.

    An anomaly in the `eval` split is the newest span's, one in `train` is one of the older spans': there the new ones
    are taken out, because the others have passed before.
    """
    names = [span.name for span in request.spans]
    if result.error_type == BAD_SPAN:
        span = str(result.facts.get("span", ""))
        return {span: str(result.facts.get("reason") or result.message)} if span in names else {}
    if result.error_type != BAD_DATA:
        return {}
    found = [str(anomaly) for anomaly in result.facts.get("anomalies", ())]
    splits = {match.group(1) for match in map(ANOMALY_OF_SPLIT.match, found) if match}
    newest, older = names[-1], [name for name in names[:-1] if name in request.new_spans]
    taken_out = [*(older if "train" in splits else ()), *([newest] if "eval" in splits or len(names) == 1 else ())]
    return dict.fromkeys(taken_out, "; ".join(found) or result.message)


def _read_request(home: Home, run_id: str) -> RunRequest | None:
    """None when the run ended before its request was written."""
    try:
        return RunRequest.model_validate_json(home.request_path(run_id).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _read_results(home: Home, run_id: str) -> dict[str, NodeResult]:
    results = {}
    for path in sorted((home.runs / run_id).glob("*.result.json")):
        try:
            result = NodeResult.model_validate_json(path.read_text(encoding="utf-8"))
        except (ValidationError, FileNotFoundError):
            continue  # written by another version, or replaced right now by a retry
        results[result.node_id] = result
    return results
