"""What serves: the model store on disk, and the plans that change it."""

from ct.rollout.apply import Aliases, Applied, apply
from ct.rollout.plan import Plan, plan_rollback, plan_rollout
from ct.rollout.store import ModelStore, tree_sha256

__all__ = ["Aliases", "Applied", "ModelStore", "Plan", "apply", "plan_rollback", "plan_rollout", "tree_sha256"]
