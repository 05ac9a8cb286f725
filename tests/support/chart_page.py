"""docs/reference/chart-values.md, made from the chart's values.yaml: ``python -m support.chart_page`` writes it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

VALUES = ROOT / "charts" / "pgscheduler" / "values.yaml"
PAGE = ROOT / "docs" / "reference" / "chart-values.md"
_WHOLE = {"resources", "podSecurityContext", "securityContext", "spec"}
"""Not told of by their parts, which are Kubernetes' own."""
_KEY = re.compile(r"^( *)([A-Za-z][A-Za-z0-9]*):(.*)$")
_HEAD = """# Values of the Helm chart

Made from [values.yaml](../../charts/pgscheduler/values.yaml). Any other value is refused, and so
is one of a wrong form, before anything is installed. Examples: [examples/values](../../examples/values).

| value | default | meaning |
|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Value:
    """One line of the table."""

    path: str
    default: Any
    meaning: str


def values() -> Iterator[Value]:
    """Every value with a comment above it that is no heading of others."""
    defaults = yaml.safe_load(VALUES.read_text(encoding="utf-8"))
    comment = ""
    parents: list[str] = []
    for line in VALUES.read_text(encoding="utf-8").splitlines():
        if line.strip().startswith("#"):
            comment = line.strip().removeprefix("#").strip()
        elif found := _KEY.match(line):
            depth = len(found[1]) // 2
            parents = [*parents[:depth], found[2]]
            if comment and (found[3].strip() or parents[-1] in _WHOLE):
                yield Value(".".join(parents), _at(defaults, parents), comment)
            comment = ""
        else:
            comment = ""


def page() -> str:
    rows = (
        f"| `{value.path}` | `{json.dumps(value.default)}` | {value.meaning.replace('|', '/')} |" for value in values()
    )
    return _HEAD + "\n".join(rows) + "\n"


def _at(tree: Any, path: list[str]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
