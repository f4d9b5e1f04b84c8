"""What a version predicts for logged rows, beside what was answered."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ct.errors import CTError
from serving.logs.prediction_files import OURS, TYPES
from serving.rows import from_columns

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from serving.rows import Layout, Rows

Floats = np.ndarray[Any, np.dtype[Any]]

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
SHOWN_ROWS = 5


class ReplayError(CTError):
    """The replay could not be done. Nothing that serves was touched."""


class Candidate(Protocol):
    """A loaded version."""

    @property
    def version(self) -> int:
        """Its number."""

    @property
    def layout(self) -> Layout:
        """The raw features it takes."""

    def predict(self, rows: Rows) -> Floats:
        """Probabilities, float32, (rows,)."""


@dataclass
class _Seen:
    """What has been replayed so far: 12 bytes a row, and counts of rows."""

    answered: list[Floats] = field(default_factory=list)
    predicted: list[Floats] = field(default_factory=list)
    versions: list[Floats] = field(default_factory=list)
    furthest: list[dict[str, Any]] = field(default_factory=list)
    requests: int = 0
    unfit: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


def compare(candidate: Candidate, batches: Iterable[pa.RecordBatch], threshold: float) -> dict[str, Any]:
    """Predict logged rows again and compare.

    Args:
        candidate: the version.
        batches: as serving.logs.prediction_log.read gives them.
        threshold: a prediction from here on is a yes.

    Returns:
        The report, JSON values. `rows`, `requests` and all numbers are of the rows that fit the candidate; `unfit` counts the
        others by what is wrong with them; `unknown_features` counts compared rows that carried a feature which the candidate
        does not take, and whose clients it would refuse. `not_finite` rows count in no number but `decisions_differ`.

    Raises:
        ReplayError: the candidate fails on rows that it takes.
    """
    seen = _Seen()
    for batch in batches:
        wrong = misfit(candidate.layout, batch.schema)
        if wrong:
            seen.unfit[wrong] += batch.num_rows
            continue
        for name in sorted(set(batch.schema.names[len(OURS) :]) - candidate.layout.names):
            seen.unknown[name] += batch.num_rows
        _add(candidate, batch, seen)
    return {
        "rows": sum(map(len, seen.answered)),
        "requests": seen.requests,
        **_numbers(seen, threshold),
        "furthest": [{name: value for name, value in row.items() if name != "difference"} for row in seen.furthest],
        "unfit": dict(seen.unfit),
        "unknown_features": dict(seen.unknown),
    }


def ks_statistic(one: Floats, other: Floats) -> float:
    """The two-sample Kolmogorov-Smirnov statistic: the largest distance of the two empirical distribution functions, 0 to 1."""
    one, other = np.sort(one), np.sort(other)
    places = np.concatenate([one, other])
    below_one = np.searchsorted(one, places, side="right") / len(one)
    below_other = np.searchsorted(other, places, side="right") / len(other)
    return float(np.abs(below_one - below_other).max())


def misfit(layout: Layout, logged: pa.Schema) -> str:
    """Why the candidate cannot predict rows that were logged so; empty when it can."""
    lacking = sorted(layout.names - set(logged.names[len(OURS) :]))
    if lacking:
        return "the log lacks " + ", ".join(f'"{name}"' for name in lacking)
    logged_types = {kind: dtype for dtype, kind in TYPES.items()}
    other = [
        f'"{each.name}" is {logged_types.get(logged.field(each.name).type, "of another type")} in the log, '
        f"the version takes {each.dtype}"
        for each in layout.features
        if logged.field(each.name).type != TYPES[each.dtype]
    ]
    return "; ".join(other)


def _add(candidate: Candidate, batch: pa.RecordBatch, seen: _Seen) -> None:
    columns = {each.name: batch.column(each.name).to_pylist() for each in candidate.layout.features}
    rows = from_columns(candidate.layout, columns, "the log")
    began = time.perf_counter()
    try:
        predicted = np.asarray(candidate.predict(rows), np.float32)
    except Exception as error:
        row = _first_failing(candidate, rows)
        raise ReplayError(
            f"Version {candidate.version} fails on a logged row that version {batch['ct_version'][row]} answered: request "
            f"{batch['ct_request_id'][row]}, row {batch['ct_row'][row]}: {type(error).__name__}: {_first_line(error)}. "
            "Nothing that serves was touched. Do not roll it out before it can answer such rows.",
            version=candidate.version,
            request_id=str(batch["ct_request_id"][row]),
            row=batch["ct_row"][row].as_py(),
        ) from error
    seen.seconds += time.perf_counter() - began
    answered = batch.column("ct_prediction").to_numpy()
    seen.answered.append(answered)
    seen.predicted.append(predicted)
    seen.versions.append(batch.column("ct_version").to_numpy())
    seen.requests += int(np.count_nonzero(batch.column("ct_row").to_numpy() == 0))
    difference = np.abs(predicted.astype(np.float64) - answered)
    difference[~np.isfinite(difference)] = np.inf  # a row without a number is the furthest there is
    for row in np.argsort(-difference, kind="stable")[:SHOWN_ROWS]:
        seen.furthest.append(
            {
                "request_id": batch["ct_request_id"][row].as_py(),
                "row": batch["ct_row"][row].as_py(),
                "at": batch["ct_at"][row].as_py().isoformat(),
                "version": batch["ct_version"][row].as_py(),
                "answered": _number(answered[row]),
                "predicted": _number(predicted[row]),
                "difference": float(difference[row]),
            }
        )
    seen.furthest = sorted(seen.furthest, key=lambda row: -float(row["difference"]))[:SHOWN_ROWS]


def _first_failing(candidate: Candidate, rows: Rows) -> int:
    """The first row that a version fails on, in a batch that it fails on; found by halving."""
    passes, fails = 0, rows.count
    while fails - passes > 1:
        middle = (passes + fails) // 2
        try:
            candidate.predict(rows.first(middle))
        except Exception:  # noqa: BLE001  any failure is the one that is looked for
            fails = middle
        else:
            passes = middle
    return fails - 1


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "no message")


def _numbers(seen: _Seen, threshold: float) -> dict[str, Any]:
    """Everything that is computed over all compared rows; None where there are none."""
    answered, predicted, versions = (
        np.concatenate(parts) if parts else np.empty(0, np.float32)
        for parts in (seen.answered, seen.predicted, seen.versions)
    )
    finite = np.isfinite(answered) & np.isfinite(predicted)
    difference = np.abs(predicted.astype(np.float64) - answered)
    decided = (answered >= threshold) != (predicted >= threshold)
    both = answered[finite], predicted[finite]
    any_finite = bool(finite.any())
    return {
        "versions": [
            {"version": int(version), "rows": int(np.sum(versions == version))}
            | _differences(difference[finite & (versions == version)])
            for version in np.unique(versions)
        ],
        **_differences(difference[finite]),
        "threshold": threshold,
        "decisions_differ": float(decided.mean()) if len(decided) else None,
        "quantiles": [
            {"q": q, "answered": float(np.quantile(both[0], q)), "predicted": float(np.quantile(both[1], q))}
            for q in (QUANTILES if any_finite else ())
        ],
        "ks": ks_statistic(*both) if any_finite else None,
        "not_finite": int(np.sum(~finite)),
        "us_per_row": seen.seconds * 1e6 / len(answered) if len(answered) else None,
    }


def _differences(difference: Floats) -> dict[str, float | None]:
    if not len(difference):
        return {"mean_difference": None, "largest_difference": None}
    return {"mean_difference": float(difference.mean()), "largest_difference": float(difference.max())}


def _number(value: Any) -> float | None:
    """JSON has no NaN."""
    return float(value) if np.isfinite(value) else None
