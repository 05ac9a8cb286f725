"""Text of others meets our regular expressions in time that grows with its length, and no faster."""

from __future__ import annotations

import re
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from support.paths import LIBRARY, OPERATOR, shipped_modules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LENGTH = 10_000
SECONDS = 0.05
"""Of CPU time, the best of three. The square of the length takes many times as long, and anything worse for ever."""
PIECES = (
    "a",
    "A",
    "0",
    ".",
    "-",
    "*",
    "/",
    "_",
    " ",
    "\t",
    "a.",
    "a-",
    "*/",
    "1-",
    "0,",
    "://",
    "a://",
    "a@",
    "a:",
    "é",
)
ENDS = ("", "!", "\n", "@")
OF_OUR_OWN_FILES = "pg_scheduler._store."


def patterns() -> Iterator[tuple[str, Callable[[str], object]]]:
    """All that our modules keep, in tables too, each as it is asked there: searched for, or matched."""
    for path in shipped_modules():
        root = LIBRARY if path.is_relative_to(LIBRARY) else OPERATOR
        name = ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__")
        if not name.endswith("__main__") and not name.startswith(OF_OUR_OWN_FILES):
            for key, value in vars(import_module(name)).items():
                is_matched = re.search(rf"\b{key}\.(full)?match\(", path.read_text()) is not None
                for number, pattern in enumerate(_patterns_in(value)):
                    yield f"{name}.{key}.{number}", pattern.fullmatch if is_matched else pattern.search


def _patterns_in(value: Any) -> Iterator[re.Pattern[str]]:
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _patterns_in(each)


PATTERNS = dict(patterns())


def test_patterns_are_found() -> None:
    assert len(PATTERNS) > 20


@pytest.mark.parametrize("name", PATTERNS)
def test_no_pattern_takes_long_over_hostile_text(name: str) -> None:
    texts = [(piece * LENGTH)[:LENGTH] + end for piece in PIECES for end in ENDS]

    slow = next((text[:20] for text in texts if _seconds(PATTERNS[name], text) > SECONDS), None)

    assert slow is None


def _seconds(ask: Callable[[str], object], text: str) -> float:
    spent: list[float] = []
    while len(spent) < 3 and not (spent and spent[-1] < SECONDS):
        began = time.thread_time()
        ask(text)
        spent.append(time.thread_time() - began)
    return min(spent)
