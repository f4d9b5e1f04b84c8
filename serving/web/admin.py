"""What changes what serves, over HTTP: a rollback for whoever has an admin token and no shell on this machine."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import orjson

from ct.errors import CTError, RegistryError
from ct.rollout import LaggingError, ModelStore, admit, apply, kept, plan_rollback
from serving.plane.data_plane import NotServedError
from serving.rows import kind
from serving.web.messages import HttpError, json_response
from serving.web.protocols.body import read_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ct.home import Home
    from serving.web.messages import Request, Response
    from serving.web.routes import Target

WAIT_S = 60.0
REASON_CHARACTERS = 500


class _NoRegistry:
    """Serving knows no registry; what that lacks, the monitor or the next `ct rollout` tells it."""

    def point_champion(self, name: str, version: int) -> None:
        """Say so.

        Raises:
            RegistryError: always.
        """
        raise _not_told(f"that {name} serves version {version}", name=name, version=version)

    def tag_version(self, name: str, version: int, tags: Mapping[str, str]) -> None:
        """Say so.

        Raises:
            RegistryError: always.
        """
        raise _not_told(f"of version {version} of {name}", name=name, version=version, tags=dict(tags))


def _not_told(what: str, **facts: Any) -> RegistryError:
    later = "The daemon's monitor tells it, or the next `ct rollout`."
    return RegistryError(f"MLflow was not told {what}: serving has no registry. {later}", **facts)


class Admin:
    """Executes the same plans as the command line does."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def rollback(self, request: Request, target: Target) -> Response:
        """`{"to": 3, "reason": "...", "keep": true}`, each optional and as for `ct rollback`. Takes a thread.

        Answers when every worker serves the version.

        Raises:
            HttpError: 409, it cannot be done, and the message says why and what serves on; 504, it is desired, and a worker has
                not taken it in time.
            BadRequestError: the body is wrong.
        """
        to, reason, keep = _read(request.body)
        store = ModelStore(self._home, target.model or "")
        try:
            desired = store.desired()
            if desired is None:
                raise NotServedError(f'no model "{store.name}" serves')
            plan = plan_rollback(store.name, to, quarantine=not keep, **store.facts(kept(desired)))
            admit(plan, store)
            applied = apply(
                plan,
                store,
                _NoRegistry(),
                actor=f"token {request.token}",
                reason=reason,
                clock=lambda: datetime.now(timezone.utc),
                timeout_s=WAIT_S,
            )
        except LaggingError as error:
            raise HttpError(504, error.message) from error
        except CTError as error:
            raise HttpError(409, error.message) from error
        entry = applied.entry
        answer = {"name": store.name, "from": entry.previous, "to": entry.version, "workers": applied.workers}
        answer["quarantined"] = entry.quarantined
        return json_response(200, {**answer, "registry_problem": applied.registry_problem})


def _read(body: bytes) -> tuple[int | None, str, bool]:
    payload: dict[str, Any] = read_object(body or orjson.dumps({}), ("to", "reason", "keep"))
    to, reason, keep = payload.get("to"), payload.get("reason", "rolled back over HTTP"), payload.get("keep", False)
    if to is not None and (type(to) is not int or to < 1):
        raise HttpError(400, f'"to" must be the number of a version, not {kind(to)}')
    if type(reason) is not str or len(reason) > REASON_CHARACTERS:
        raise HttpError(400, f'"reason" must be a text of at most {REASON_CHARACTERS} characters')
    if type(keep) is not bool:
        raise HttpError(400, f'"keep" must be true or false, not {kind(keep)}')
    return to, reason, keep
