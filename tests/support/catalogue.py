"""What a database holds, as the catalogue says it: to compare two ways to the same schema.

Columns are compared by name: an adopted table keeps the order of its older columns. Every table has its number of rows,
so that a migration that fills one is not forgotten by ``schema.sql``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pg_scheduler._store.driver import Connection

QUESTIONS = {
    "columns": """
        SELECT c.relname || '.' || a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity::text,
               a.attgenerated::text, a.attstorage::text, pg_get_expr(d.adbin, d.adrelid)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'v')
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped""",
    "tables": """
        SELECT relname, relkind::text, relpersistence::text, (SELECT array_agg(o ORDER BY o) FROM unnest(reloptions) o)
        FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')""",
    "constraints": """
        SELECT c.relname || '.' || k.conname, pg_get_constraintdef(k.oid), k.convalidated
        FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid WHERE k.connamespace = 'public'::regnamespace""",
    "indexes": """
        SELECT c.relname, pg_get_indexdef(c.oid), i.indisvalid, i.indisprimary
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relnamespace = 'public'::regnamespace""",
    "functions": """
        SELECT p.oid::regprocedure::text, pg_get_functiondef(p.oid)
        FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.prokind <> 'a'""",
    "views": """
        SELECT c.relname, pg_get_viewdef(c.oid)
        FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'v'""",
    "triggers": """
        SELECT c.relname || '.' || t.tgname, pg_get_triggerdef(t.oid)
        FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        WHERE NOT t.tgisinternal AND c.relnamespace = 'public'::regnamespace""",
    "sequences": """
        SELECT c.relname, format_type(s.seqtypid, NULL), s.seqstart, s.seqincrement, s.seqmax, s.seqmin, s.seqcache,
               (SELECT d.refobjid::regclass::text || '.' || d.refobjsubid::text || d.deptype::text FROM pg_depend d
                WHERE d.objid = c.oid AND d.deptype = 'i' AND d.refobjsubid = 0)
        FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid WHERE c.relnamespace = 'public'::regnamespace""",
    "migrations": "SELECT version::text, name, sha256, min_reader FROM scheduler_migrations",
}

TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"


async def catalogue(connection: Connection) -> dict[str, tuple[object, ...]]:
    """Every object of the schema ``public`` by kind and name, with what the catalogue says of it."""
    found = {
        f"{kind} {row[0]}": tuple(row)[1:]
        for kind, question in QUESTIONS.items()
        for row in await connection.fetch(question)
    }
    for name in [name for name in found if name.startswith("views ")]:
        found[name] = (await _settled(connection, str(found[name][0])),)
    tables = [str(row[0]) for row in await connection.fetch(TABLES)]
    counts = {
        f"rows {name}": (await connection.fetchval(f'SELECT count(*) FROM "{name}"'),)  # noqa: S608 - of the catalogue
        for name in tables
    }
    return found | counts


async def _settled(connection: Connection, definition: str) -> str:
    """The text of a view that was made from its own text: the first time the server adds casts and names to it."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(f"CREATE TEMP VIEW settled AS {definition}")  # of the catalogue
        return str(await connection.fetchval("SELECT pg_get_viewdef('settled'::regclass)"))
    finally:
        await transaction.rollback()


def difference(one: dict[str, tuple[object, ...]], other: dict[str, tuple[object, ...]]) -> dict[str, object]:
    """What the two do not share; empty when they are alike."""
    return {name: (one.get(name), other.get(name)) for name in sorted(one | other) if one.get(name) != other.get(name)}
