"""An order and its job in one commit, by psycopg; any language that speaks SQL does the same.

Run it with the tables in place (`pgscheduler migrate`) and PGSCHEDULER_DSN set.
"""

import os

import psycopg
from psycopg.types.json import Json

PLACE_ORDER = """
WITH placed AS (INSERT INTO orders (item) VALUES (%s) RETURNING id)
SELECT scheduler_enqueue('shop.mail:send_receipt', args => json_build_array(id), queue => 'mail',
                         unique_key => 'receipt ' || id) FROM placed"""


def place_order(connection: psycopg.Connection, item: str) -> str:
    """Both are committed together; the receipt of an order is enqueued once, however often that is repeated."""
    return str(connection.execute(PLACE_ORDER, [item]).fetchall()[0][0])


def main(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS orders (id serial PRIMARY KEY, item text NOT NULL)")
        print("enqueued", place_order(connection, "book"))
        try:
            connection.execute("SELECT scheduler_enqueue('shop.mail:send_receipt', %s)", [Json({"order": 7})])
        except psycopg.errors.InvalidParameterValue as error:
            print(error.diag.message_primary, "-", error.diag.message_hint)


if __name__ == "__main__":
    main(os.environ["PGSCHEDULER_DSN"])
