"""A version as one archive that needs nothing of this machine: the model, its record, and a card for people."""

from ct.export.contents import Exported, export

__all__ = ["Exported", "export"]
