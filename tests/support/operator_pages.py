"""The tables of the operator's reference pages, made from the code: ``python -m support.operator_pages`` writes them.

Each table stands between two comments; what is around it is written by hand.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pg_scheduler_operator.metrics import METRICS
from pg_scheduler_operator.settings import Settings
from support.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

METRICS_PAGE = ROOT / "docs" / "reference" / "operator-metrics.md"
SETTINGS_PAGE = ROOT / "docs" / "reference" / "operator-settings.md"
_BETWEEN = re.compile(r"(?<=<!-- made from the code -->\n\n).*?(?=<!-- end -->)", re.DOTALL)


def metrics_table() -> str:
    """Every metric with its kind, its labels and its meaning."""
    rows = [
        f"| `{metric.name}` | {'gauge' if metric.kind == 'age' else metric.kind} "
        f"| {', '.join(f'`{label}`' for label in metric.labels)} | {_begun_small(metric.meaning)} |"
        for metric in METRICS
    ]
    return "\n".join(["| metric | type | labels | meaning |", "|---|---|---|---|", *rows]) + "\n"


def settings_table() -> str:
    """Every setting with its variable, its default and its meaning."""
    rows = [
        f"| `PGSCHEDULER_{name.upper()}` | {_default(field.default)} | {_begun_small(field.description or '')} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows]) + "\n"


def _default(value: object) -> str:
    if value is None or value == ():
        return ""
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"


def _begun_small(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:].removesuffix(".")


def _write(page: Path, table: str) -> None:
    page.write_text(_BETWEEN.sub(lambda _: f"{table}\n", page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    _write(METRICS_PAGE, metrics_table())
    _write(SETTINGS_PAGE, settings_table())
