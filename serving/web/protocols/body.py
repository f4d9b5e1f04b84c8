"""What the JSON protocols share: reading a body, and the limit of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from serving.rows import BadRequestError, TooLargeError, kind, nearest, short

if TYPE_CHECKING:
    from collections.abc import Sequence


def read_object(body: bytes, known: Sequence[str]) -> dict[str, Any]:
    """A body that is a JSON object with known keys.

    Raises:
        BadRequestError: it is not JSON (NaN and Infinity are not JSON either), no object, or has an unknown key.
    """
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequestError(f"the body is not JSON: {error}") from error
    if type(payload) is not dict:
        raise BadRequestError(
            f"the body must be an object with {' or '.join(map(_quoted, known[:2]))}, not {kind(payload)}"
        )
    for key in payload:
        if key not in known:
            raise BadRequestError(f'unknown key "{short(key)}"{nearest(key, known)}')
    return payload


def require_rows(rows: Any, name: str, max_rows: int) -> list[Any]:
    """A list with at least one row, and no more than are allowed.

    Raises:
        BadRequestError: it is none.
        TooLargeError: it has more rows.
    """
    if type(rows) is not list or not rows:
        raise BadRequestError(f'"{name}" must be a list with at least one row, not {kind(rows)}')
    limit_rows(len(rows), max_rows)
    return rows


def limit_columns(columns: Any, name: str, max_rows: int) -> dict[str, Any]:
    """An object with a list a feature, no list longer than allowed.

    Raises:
        BadRequestError: it is none.
        TooLargeError: it has more rows.
    """
    if type(columns) is not dict:
        raise BadRequestError(f'"{name}" must be an object with a list a feature, not {kind(columns)}')
    limit_rows(max((len(values) for values in columns.values() if type(values) is list), default=0), max_rows)
    return columns


def limit_rows(count: int, max_rows: int) -> None:
    """Refuse more rows than are allowed.

    Raises:
        TooLargeError: there are more.
    """
    if count > max_rows:
        raise TooLargeError(f"the request has {count} rows; {max_rows} are allowed. Send it in parts.")


def _quoted(name: str) -> str:
    return f'"{name}"'
