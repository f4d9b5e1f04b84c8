"""What serves: the model store on disk, and the plans that change it."""

from ct.rollout.admission import admit, holds_against, incompatible_features
from ct.rollout.apply import apply
from ct.rollout.beside import check_features, check_key
from ct.rollout.execution import Applied
from ct.rollout.history import canary_since, forced_of, served_at, serving_since
from ct.rollout.pins import pin, unpin
from ct.rollout.plan import (
    Facts,
    kept,
    overruling,
    plan_canary,
    plan_end,
    plan_end_canary,
    plan_rollback,
    plan_rollout,
    plan_shadow,
)
from ct.rollout.quarantine import lift_quarantine, quarantine_check, quarantined
from ct.rollout.registry import Registry
from ct.rollout.resume import Resumed, resume
from ct.rollout.steps import Plan, canary_text, percent, shadow_text
from ct.rollout.store import ModelStore, tree_sha256
from ct.rollout.waiting import LaggingError, OvertakenError, RefusedError
from ct.rollout.workers import announce_worker

__all__ = [
    "Applied",
    "Facts",
    "LaggingError",
    "ModelStore",
    "OvertakenError",
    "Plan",
    "RefusedError",
    "Registry",
    "Resumed",
    "admit",
    "announce_worker",
    "apply",
    "canary_since",
    "canary_text",
    "check_features",
    "check_key",
    "forced_of",
    "holds_against",
    "incompatible_features",
    "kept",
    "lift_quarantine",
    "overruling",
    "percent",
    "pin",
    "plan_canary",
    "plan_end",
    "plan_end_canary",
    "plan_rollback",
    "plan_rollout",
    "plan_shadow",
    "quarantine_check",
    "quarantined",
    "resume",
    "served_at",
    "serving_since",
    "shadow_text",
    "tree_sha256",
    "unpin",
]
