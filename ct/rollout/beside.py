"""Whether a version can go beside the champion: it answers or mirrors the champion's requests, so it needs their features."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from ct.errors import RolloutError

if TYPE_CHECKING:
    from ct.contracts import VersionManifest


def check_features(champion: VersionManifest, beside: VersionManifest) -> None:
    """See that a canary or shadow takes exactly the champion's features.

    Raises:
        RolloutError: it does not; the message names those that differ.
    """
    ours = {(feature.name, feature.dtype) for feature in champion.features}
    theirs = {(feature.name, feature.dtype) for feature in beside.features}
    if ours != theirs:
        raise RolloutError(
            f'Version {beside.version} of "{beside.name}" cannot go beside version {champion.version}, because it takes other '
            f"features ({', '.join(f'{name}: {dtype}' for name, dtype in sorted(ours ^ theirs))}). Nothing was changed. "
            f"Only a full rollout can change the features: `ct rollout {beside.name} --version {beside.version}`.",
            name=beside.name,
            version=beside.version,
            serving=champion.version,
        )


def check_key(key: str, champion: VersionManifest) -> None:
    """See that requests can carry what a canary is split by. Any header may be sent; a feature must be the model's.

    Args:
        key: as in contracts.Canary, for example `feature:carrier`.
        champion: what serves.

    Raises:
        RolloutError: the model has no such feature; the message names the nearest.
    """
    kind, _, feature = key.partition(":")
    known = [each.name for each in champion.features]
    if kind != "feature" or feature in known:
        return
    near = next(iter(difflib.get_close_matches(feature, known, n=1, cutoff=0.5)), None)
    hint = f"did you mean `--by feature:{near}`?" if near else f"its features: {', '.join(known) or 'none'}."
    raise RolloutError(
        f'Cannot split "{champion.name}" by the feature "{feature}": version {champion.version}, which is serving, does not '
        f"have it; {hint} Nothing was changed.",
        name=champion.name,
        version=champion.version,
        feature=feature,
        nearest=near,
    )
