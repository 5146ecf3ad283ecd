"""The schema: a new database, and what the migrations lead to."""

from __future__ import annotations

from typing import Any

from alembic.config import Config
from alembic.script import ScriptDirectory
from skywire_transport_discovery.store import migrate, schema
from skywire_transport_discovery.store.database import Database
from sqlalchemy import Connection, inspect, select, text


async def test_migrations_lead_to_the_schema(empty: Database) -> None:
    def differences(db: object) -> list[object]:
        from alembic.autogenerate import compare_metadata
        from alembic.migration import MigrationContext

        return list(compare_metadata(MigrationContext.configure(db), schema.metadata))  # type: ignore[arg-type]

    assert await empty.upgrade(migrate.newest()) == migrate.newest()
    assert await empty.read(differences) == []
    assert await empty.read(lambda db: sorted(inspect(db).get_table_names())) == sorted(
        ["alembic_version", *schema.metadata.tables]
    )
    await empty.read(lambda db: db.execute(select(schema.transports)).all())


def described(db: Connection) -> dict[str, object]:
    """Return all columns, keys and indexes of a database, and the rows that it begins with."""
    seen = inspect(db)

    def texts(things: list[Any]) -> list[dict[str, str]]:
        """Each as text, SQL expressions and types too."""
        return sorted(({k: str(v) for k, v in thing.items() if k != "dialect_options"} for thing in things), key=str)

    tables = {
        name: (texts(seen.get_columns(name)), seen.get_pk_constraint(name), texts(seen.get_indexes(name)))
        for name in seen.get_table_names()
    }
    partial = {
        index["name"]
        for name in seen.get_table_names()
        for index in seen.get_indexes(name)
        if f"{db.dialect.name}_where" in index.get("dialect_options", {})
    }
    counters = sorted(map(tuple, db.execute(select(schema.counters))))
    return tables | {"partial": partial, "counters": counters, "revision": migrate.current(db)}


async def test_a_new_database_is_what_the_migrations_lead_to(empty: Database) -> None:
    assert await empty.upgrade() == migrate.newest()
    made = await empty.read(described)
    await empty.upgrade()
    assert await empty.read(described) == made

    def clear(db: Connection) -> None:
        schema.metadata.drop_all(db)
        db.execute(text("DELETE FROM alembic_version"))

    await empty.write(clear)
    assert await empty.upgrade() == migrate.newest()
    migrated = await empty.read(described)
    assert made == migrated


def test_the_names_of_the_migrations_tell_the_newest_one() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrate.MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == migrate.newest()
