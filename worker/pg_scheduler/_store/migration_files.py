"""The numbered files under ``migrations/``.

Invariant: an applied file never changes; what it says of itself stands in comment lines at its head:

- ``-- min_reader: N``, the oldest schema version whose release may read the result;
- ``-- after: N.N``, of a contracting step: it waits until no worker of that release or an older one lives, and is then
  applied by whoever migrates or starts next;
- ``-- transaction: none``, for ``CREATE INDEX CONCURRENTLY``, which PostgreSQL refuses inside one. Such a file holds
  nothing else, one statement for each index.

A file that runs in a transaction locks what it alters until it ends, so that on ``scheduled_jobs`` it does only what
takes no look at the rows: columns with constant defaults, constraints ``NOT VALID`` (the migrator validates them
afterwards), and no index. A test holds every file after 0002 to that.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

_FILE = re.compile(r"^(\d{4})_(\w+)\.sql$")
_MIN_READER = re.compile(r"^-- min_reader: (\d+)$", re.MULTILINE)
_NO_TRANSACTION = re.compile(r"^-- transaction: none$", re.MULTILINE)
_AFTER = re.compile(r"^-- after: (\d+)\.(\d+)$", re.MULTILINE)
_CONCURRENT_INDEX = re.compile(
    r"^CREATE (?:UNIQUE )?INDEX CONCURRENTLY IF NOT EXISTS (?P<name>\w+) ON [^;]+", re.MULTILINE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One numbered file; ``min_reader`` is the oldest schema version whose release may read the result."""

    version: int
    name: str
    text: str
    min_reader: int

    @property
    def sha256(self) -> str:
        """What was applied, to be told from what the file says now."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def in_transaction(self) -> bool:
        """Whether the file runs as one transaction."""
        return _NO_TRANSACTION.search(self.text) is None

    @property
    def after(self) -> tuple[int, int] | None:
        """The newest release that still needs what the file takes away; None where nobody does."""
        found = _AFTER.search(self.text)
        return None if found is None else (int(found[1]), int(found[2]))

    @property
    def concurrent_indexes(self) -> dict[str, str]:
        """Of a file outside a transaction: its statements by the index that each makes."""
        return {match["name"]: match[0] for match in _CONCURRENT_INDEX.finditer(self.text)}


@lru_cache(maxsize=1)
def migrations() -> tuple[Migration, ...]:
    """Every migration of this release, in order."""
    files = resources.files("pg_scheduler._store").joinpath("migrations").iterdir()
    found = [(match, file) for file in files if (match := _FILE.match(file.name))]
    return tuple(sorted((_parse(m, f.read_text(encoding="utf-8")) for m, f in found), key=lambda m: m.version))


def digest() -> str:
    """One value that changes with any migration: which files a schema was made of."""
    return hashlib.sha256("\n".join(migration.sha256 for migration in migrations()).encode()).hexdigest()


def _parse(match: re.Match[str], text: str) -> Migration:
    header = _MIN_READER.search(text)
    if header is None:
        raise ValueError(f"migration {match[0]} lacks its min_reader line")
    migration = Migration(version=int(match[1]), name=match[2], text=text, min_reader=int(header[1]))
    if not migration.in_transaction and len(migration.concurrent_indexes) != text.count(";"):
        raise ValueError(f"migration {match[0]} runs outside a transaction and holds more than indexes")
    return migration
