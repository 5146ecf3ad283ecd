"""alembic's environment: always the connection, and the transaction, of `store.migrate`."""

from __future__ import annotations

from alembic import context
from skywire_transport_discovery.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
context.run_migrations()
