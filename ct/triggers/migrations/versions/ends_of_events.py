"""What an event is about stands in columns, sources other than folders have fingerprints, and spans know their rows."""

from __future__ import annotations

import re

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

OWN = re.compile(r"revision (\d+)")
DUPLICATE = re.compile(r"the same bytes as (.+), revision (\d+)(?:, which was refused: .*)?", re.DOTALL)
"""How the messages of events said what they are about."""
ADDED = (
    ("spans", sa.Column("source_uri", sa.String)),
    ("spans", sa.Column("rows", sa.BigInteger)),
    ("spans", sa.Column("rows_estimated", sa.Boolean)),
    ("spans", sa.Column("deleted", sa.String)),
    ("events", sa.Column("fingerprint", sa.String)),
    ("events", sa.Column("span", sa.String)),
    ("events", sa.Column("revision", sa.Integer)),
    ("runs", sa.Column("cause", sa.String)),
)


def upgrade() -> None:
    """Add the columns, and fill them for what was recorded before."""
    for table, column in ADDED:
        op.add_column(table, column)
    connection = op.get_bind()
    connection.execute(sa.text("UPDATE spans SET source_uri = uri"))
    events = sa.table("events", *map(sa.column, ("id", "name", "outcome", "message", "size_bytes", "mtime_ns")))
    landings = sa.select(events).where(events.c.outcome.in_(("new", "revision", "duplicate")))
    update = sa.text("UPDATE events SET fingerprint = :fingerprint, span = :span, revision = :revision WHERE id = :id")
    for row in connection.execute(landings).mappings().all():
        duplicate = row["outcome"] == "duplicate"
        found = (DUPLICATE if duplicate else OWN).fullmatch(row["message"])
        if found is None:
            raise ValueError(f"event {row['id']} of the ledger does not say which span it is about: {row['message']}")
        span = found[1] if duplicate else row["name"]
        fingerprint = f"{row['size_bytes']} bytes, {row['mtime_ns']} ns"
        values = {"id": row["id"], "fingerprint": fingerprint, "span": span, "revision": int(found[found.re.groups])}
        connection.execute(update, values)
