"""Statements by name, from the ``.sql`` files beside this module.

Invariant: a name stands once over all files; each statement is preceded by ``-- name: …`` and a line that says why it
is as it is.
"""

import re
from importlib import resources

_HEADER = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def statements_of(text: str) -> dict[str, str]:
    """The statements of one file by name."""
    _, *parts = _HEADER.split(text)
    return {name: body.strip().rstrip(";") for name, body in zip(parts[::2], parts[1::2], strict=True)}


def _load() -> dict[str, str]:
    statements: dict[str, str] = {}
    for file in sorted(resources.files("pg_scheduler._store").joinpath("sql").iterdir(), key=lambda f: f.name):
        for name, text in statements_of(file.read_text(encoding="utf-8")).items():
            if name in statements:
                raise ValueError(f"two statements are named {name}")
            statements[name] = text
    return statements


QUERIES = _load()
