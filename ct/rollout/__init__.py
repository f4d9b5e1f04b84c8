"""What serves: the model store on disk, and the plans that change it."""

from ct.rollout.apply import Aliases, Applied, apply
from ct.rollout.plan import Plan, plan_rollback, plan_rollout
from ct.rollout.store import ModelStore, announce_worker, tree_sha256

__all__ = [
    "Aliases",
    "Applied",
    "ModelStore",
    "Plan",
    "announce_worker",
    "apply",
    "plan_rollback",
    "plan_rollout",
    "tree_sha256",
]
