"""What nobody needs any more: found on disk by `plan`, taken out of use and removed by `collect`."""

from ct.garbage.collect import Collected, collect
from ct.garbage.items import Item, Kind, freed_bytes
from ct.garbage.plan import Plan, plan

__all__ = ["Collected", "Item", "Kind", "Plan", "collect", "freed_bytes", "plan"]
