"""Statements by name, from the ``.sql`` files beside this module.

Invariant: a name stands once over all files; each statement is preceded by ``-- name: …`` and a line that says why it
is as it is.
"""

import re
from importlib import resources

_HEADER = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def _load() -> dict[str, str]:
    statements: dict[str, str] = {}
    for file in sorted(resources.files("pg_scheduler._store").joinpath("sql").iterdir(), key=lambda f: f.name):
        _, *parts = _HEADER.split(file.read_text(encoding="utf-8"))
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            if name in statements:
                raise ValueError(f"two statements are named {name}")
            statements[name] = text.strip().rstrip(";")
    return statements


QUERIES = _load()
