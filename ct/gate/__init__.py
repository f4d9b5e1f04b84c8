"""The gate: scored rows and a policy in, a verdict on record out."""

from ct.gate.measured import Estimate, Measured
from ct.gate.policy import judge, level_of
from ct.gate.scores import OVERALL, Scores

__all__ = ["OVERALL", "Estimate", "Measured", "Scores", "judge", "level_of"]
