"""The artifact types that ct adds to TFX's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tfx.types.artifact import Artifact
from tfx.utils import path_utils

from ct import contracts

if TYPE_CHECKING:
    from tfx.types import standard_artifacts


class Verdict(Artifact):
    """The gate's decision.

    On disk::

        <uri>/verdict.json    contracts.Verdict
    """

    TYPE_NAME = "CtVerdict"

    def read(self) -> contracts.Verdict:
        """The decision that this artifact holds."""
        return contracts.Verdict.model_validate_json((Path(self.uri) / "verdict.json").read_text(encoding="utf-8"))


class Registration(Artifact):
    """The version that a run registered. Its files are in the model store.

    On disk::

        <uri>/manifest.json   contracts.VersionManifest
    """

    TYPE_NAME = "CtRegistration"


class Proof(Artifact):
    """What the proof of a version found.

    On disk::

        <uri>/proof.json      contracts.Proof
    """

    TYPE_NAME = "CtProof"


def champion_version(champion: standard_artifacts.Model) -> int | None:
    """The version that the Champion node found serving; None when nothing did."""
    version = int(champion.get_string_custom_property("version") or 0)
    return version or None


def saved_model_path(model: standard_artifacts.Model) -> Path:
    """The SavedModel inside a TFX Model artifact."""
    return Path(path_utils.serving_model_path(model.uri))
