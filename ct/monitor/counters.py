"""What serving counted of each version: requests, failures and times, kept over serving's restarts.

Serving's counters begin at 0 when it starts. What was added since the last look is what counts here, so a look that is
missed loses nothing, and one that is done again adds nothing. Pinned requests and a shadow's are left out: nobody chose
those by chance.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ct.contracts import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

SERIES = re.compile(r"^(ct_requests_total|ct_request_seconds_bucket)\{(.*)\} (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
Variant = Literal["champion", "canary"]
"""As what a version answers, in serving's counters and in the prediction log."""
FAILED_FROM = 500
"""HTTP codes from here on are the server's fault; 400 is mostly the client's."""
ALL = "+Inf"
"""Prometheus's name of the bucket that holds every request."""


class Counts(Value):
    """What was counted of one version."""

    requests: int = 0
    failed: int = Field(default=0, description="Answered with 500 or above.")
    buckets: dict[str, int] = Field(
        default_factory=dict,
        description="Upper limit in seconds, as Prometheus writes it -> requests that took at most so.",
    )

    def __sub__(self, other: Counts) -> Counts:
        buckets = {limit: count - other.buckets.get(limit, 0) for limit, count in self.buckets.items()}
        return Counts(requests=self.requests - other.requests, failed=self.failed - other.failed, buckets=buckets)


class Counters(Value):
    """The counters of one model as they were last seen, and what they came to."""

    shown: dict[str, float] = Field(default_factory=dict, description="Series -> its value at the last look.")
    totals: dict[int, Counts] = Field(default_factory=dict, description="Version -> all that was ever counted of it.")

    def of(self, version: int) -> Counts:
        """What was counted of a version."""
        return self.totals.get(version, Counts())


def parse(text: str, model: str, variant: Variant) -> dict[str, float]:
    """The series of a variant, out of the text of `/metrics`: `<version> <code or limit> <kind>` -> value."""
    found: dict[str, float] = defaultdict(float)
    for name, labels, value in SERIES.findall(text):
        of = dict(LABEL.findall(labels))
        if of["model"] != model or of["variant"] != variant or of["version"] == "0":
            continue
        kind, of_kind = ("code", of["code"]) if name == "ct_requests_total" else ("seconds", of["le"])
        found[f"{of['version']} {of_kind} {kind}"] += float(value)
    return dict(found)


def advance(before: Counters, shown: Mapping[str, float]) -> Counters:
    """What is known after a look. A series that went back began anew, with serving."""
    requests: dict[int, int] = defaultdict(int)
    failed: dict[int, int] = defaultdict(int)
    buckets: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for series, value in shown.items():
        last = before.shown.get(series, 0.0)
        added = int(value - last if value >= last else value)
        number, of_kind, kind = series.split(" ")
        version = int(number)
        if kind == "seconds":
            buckets[version][of_kind] += added
        else:
            requests[version] += added
            failed[version] += added if int(of_kind) >= FAILED_FROM else 0
    totals = dict(before.totals)
    for version in {*requests, *buckets}:
        old = before.of(version)
        limits = {*old.buckets, *buckets[version]}
        totals[version] = Counts(
            requests=old.requests + requests[version],
            failed=old.failed + failed[version],
            buckets={limit: old.buckets.get(limit, 0) + buckets[version][limit] for limit in limits},
        )
    return Counters(shown=dict(shown), totals=totals)
