"""Alembic's entry: the store hands its own connection over, within its own transaction."""

from alembic import context
from skywire_node.state.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, render_as_batch=True)
context.run_migrations()
