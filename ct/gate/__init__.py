"""The gate: measured metrics and a policy in, a verdict on record out."""

from ct.gate.policy import OVERALL, judge

__all__ = ["OVERALL", "judge"]
