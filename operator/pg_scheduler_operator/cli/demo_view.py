"""How the demo shows its board: a live table on a terminal, one line for each change elsewhere.

Invariant: a view only shows; when it is closed the terminal is as it was.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

from pg_scheduler.cli.output import progress, rich_table, shown
from pg_scheduler_operator.cli.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from rich.console import Group

    from pg_scheduler_operator.cli.board import Board, Row

SAID_LINES = 8


class View(Protocol):
    """What the demo tells a view.

    Attributes:
        is_endless: somebody looks on and says when it is enough.
    """

    is_endless: bool

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def changed(self, row: Row) -> None:
        """A row is not as it was."""

    def said(self, line: str) -> None:
        """A worker has printed a line."""

    def refresh(self, board: Board) -> None:
        """Time has passed."""


def view_for(board: Board, *, quit_asked: Callable[[], None]) -> View:
    """The view that suits standard output."""
    if sys.stdout.isatty() and sys.stdin.isatty():
        return LiveView(board, quit_asked=quit_asked)
    return PlainView()


class PlainView:
    """Lines: states on standard output, what workers say on standard error."""

    is_endless = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    def changed(self, row: Row) -> None:
        now = time.strftime("%H:%M:%S")
        cells = [f"{row.name:<28}", f"{row.state:<10}", f"runs {row.runs}"]
        cells += [f"{label} {text}" for label, text in (("worker", row.worker), ("next", row.next)) if text]
        sys.stdout.write("  ".join([now, *cells, *([row.problem] if row.problem else [])]) + "\n")
        sys.stdout.flush()

    def said(self, line: str) -> None:
        progress(line)

    def refresh(self, board: Board) -> None:
        """Lines stand as they were written."""


class LiveView:
    """A table drawn anew a few times a second, the newest lines of the workers below it, and the key q."""

    is_endless = True

    def __init__(self, board: Board, *, quit_asked: Callable[[], None]) -> None:
        from rich.live import Live  # noqa: PLC0415 (rich is wanted on terminals only)

        self._said: deque[str] = deque(maxlen=SAID_LINES)
        self._keys = Keys({"q": quit_asked}, gone=quit_asked)
        self._live = Live(self._drawn(board), refresh_per_second=8)

    def __enter__(self) -> Self:
        self._keys.__enter__()
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, traceback)
        self._keys.__exit__(kind, error, traceback)

    def changed(self, row: Row) -> None:
        """The table shows it at the next refresh."""

    def said(self, line: str) -> None:
        self._said.append(line)

    def refresh(self, board: Board) -> None:
        self._live.update(self._drawn(board))

    def _drawn(self, board: Board) -> Group:
        from rich.console import Group  # noqa: PLC0415 (rich is wanted on terminals only)
        from rich.text import Text  # noqa: PLC0415

        table = rich_table([cells_of(row) for row in board.rows], title="pgscheduler demo: q quits")
        lines = [Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in self._said]
        return Group(table, *lines)


def cells_of(row: Row) -> dict[str, str]:
    """One row of the table."""
    return {
        "manifest": row.key.name,
        "kind": row.key.kind.value,
        "state": row.problem or row.state,
        "runs": shown(row.runs),
        "next": shown(row.next),
        "worker": shown(row.worker),
    }
