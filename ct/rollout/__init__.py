"""What serves: the model store on disk, and the plans that change it."""

from ct.rollout.apply import Aliases, Applied, apply
from ct.rollout.beside import check_features, check_key
from ct.rollout.history import served_at, serving_since
from ct.rollout.plan import Facts, kept, plan_canary, plan_end, plan_rollback, plan_rollout, plan_shadow
from ct.rollout.steps import Plan, canary_text, percent, shadow_text
from ct.rollout.store import ModelStore, tree_sha256
from ct.rollout.waiting import LaggingError, OvertakenError, RefusedError
from ct.rollout.workers import announce_worker

__all__ = [
    "Aliases",
    "Applied",
    "Facts",
    "LaggingError",
    "ModelStore",
    "OvertakenError",
    "Plan",
    "RefusedError",
    "announce_worker",
    "apply",
    "canary_text",
    "check_features",
    "check_key",
    "kept",
    "percent",
    "plan_canary",
    "plan_end",
    "plan_rollback",
    "plan_rollout",
    "plan_shadow",
    "served_at",
    "serving_since",
    "shadow_text",
    "tree_sha256",
]
