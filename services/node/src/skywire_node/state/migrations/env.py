"""Alembic's entry: `state.migrate` hands its own connection over, within its own transaction."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], render_as_batch=True)
context.run_migrations()
