"""What TFDV found in a run's data, as values that every plane can read."""

from __future__ import annotations

import hashlib
from enum import Enum

from pydantic import Field

from ct.contracts import Value
from ct.validate_config import Action  # noqa: TC001  pydantic needs the class at run time

ID_CHARACTERS = 6
LOW_PRESENCE = "FEATURE_TYPE_LOW_FRACTION_PRESENT"
LABEL_MISSING = "LABEL_MISSING"
"""Beside TFDV's types: rows that can be neither learnt from nor judged on. No setting turns it off."""


class FindingKind(str, Enum):
    """Which comparison found it."""

    SCHEMA = "schema"
    DRIFT = "drift"
    SKEW = "skew"


ACCEPTABLE = {
    "ENUM_TYPE_UNEXPECTED_STRING_VALUES",
    "INT_TYPE_BIG_INT",
    "INT_TYPE_SMALL_INT",
    "FLOAT_TYPE_BIG_FLOAT",
    "FLOAT_TYPE_SMALL_FLOAT",
    LOW_PRESENCE,
}
"""TFDV's types of anomaly that an edit of schema.pbtxt answers: another value, a wider range, fewer rows with a value."""


class Finding(Value):
    """One thing that one comparison said of one feature of one split."""

    kind: FindingKind
    action: Action
    split: str = Field(description="`train` or `eval`, the newest span.")
    feature: str = Field(description="Empty when the whole split is meant.")
    type: str = Field(description="TFDV's name, for example ENUM_TYPE_UNEXPECTED_STRING_VALUES; or LABEL_MISSING.")
    message: str
    new_values: tuple[str, ...] = Field(default=(), description="Of a string feature: the values outside its domain.")
    low: float | None = Field(default=None, description="The smallest number that the split holds.")
    high: float | None = Field(default=None, description="The largest.")
    present: float | None = Field(default=None, description="The share of rows with a value.")

    @property
    def id(self) -> str:
        """Six hexadecimal digits; the same for the same finding in another split or run."""
        return hashlib.sha256(f"{self.kind.value}/{self.feature}/{self.type}".encode()).hexdigest()[:ID_CHARACTERS]

    @property
    def line(self) -> str:
        """For a message: `eval: dest: Examples contain values missing from the schema: BGR (<1%).`."""
        return f"{self.split}: {self.feature or 'all rows'}: {self.message}"

    @property
    def acceptable(self) -> bool:
        """True when `ct schema <pipeline> accept` knows the edit."""
        return self.kind is FindingKind.SCHEMA and self.type in ACCEPTABLE


class Validation(Value):
    """What the validator leaves: `findings.json` beside TFDV's anomalies, and the node's facts."""

    against: str | None = Field(default=None, description="The span that drift was measured from; None without one.")
    drift: dict[str, float] = Field(default_factory=dict, description="Feature -> distance from that span, 0 to 1.")
    logged_rows: int = Field(default=0, ge=0, description="Rows of the prediction log that skew was measured from.")
    skew: dict[str, float] = Field(default_factory=dict, description="Feature -> distance from those rows.")
    findings: tuple[Finding, ...] = ()

    @property
    def blocking(self) -> tuple[Finding, ...]:
        """Findings that end the run."""
        return tuple(finding for finding in self.findings if finding.action == "block")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Findings that are recorded only."""
        return tuple(finding for finding in self.findings if finding.action == "warn")


class LookedAt(Value):
    """What `ct data` found in a span that no run has validated; kept so that the same question is answered at once."""

    key: str = Field(description="The spans' hashes, the spec and the size of the prediction log.")
    span: str
    validation: Validation
