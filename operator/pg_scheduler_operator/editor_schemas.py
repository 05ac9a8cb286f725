"""JSON schemas for editors, from the CRDs' own schemas: completion, descriptions, and mistakes underlined as one types.

Invariant: what the API server would take, they take: rules in CEL are left out, and no bound is narrower. Only what
nobody writes into a manifest is refused beside it: an unknown field, which the API server would drop, and a status.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from pg_scheduler_operator.crdgen import crds
from pg_scheduler_operator.resources import API_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

DRAFT: Final = "http://json-schema.org/draft-07/schema#"
"""What yaml-language-server reads, and with it VS Code, Neovim and others."""

_FOREIGN: Final = "x-kubernetes-"


def files() -> dict[str, str]:
    """One schema a kind, by the name of its file."""
    schemas = {crd["spec"]["names"]["singular"]: _document(crd) for crd in crds()}
    return {f"{name}.json": json.dumps(schema, indent=2) + "\n" for name, schema in schemas.items()}


def _document(crd: Mapping[str, Any]) -> dict[str, Any]:
    kind = crd["spec"]["names"]["kind"]
    root = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return {
        "$schema": DRAFT,
        "title": kind,
        "description": root["description"],
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", *root["required"]],
        "additionalProperties": False,
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "kind": {"const": kind},
            "metadata": root["properties"]["metadata"],
            "spec": _closed(root["properties"]["spec"]),
        },
    }


def _closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The same without what only Kubernetes reads, and with no field that has no description there."""
    result = {keyword: value for keyword, value in schema.items() if not keyword.startswith(_FOREIGN)}
    if "properties" in schema:
        result["properties"] = {name: _closed(child) for name, child in schema["properties"].items()}
        result["additionalProperties"] = False
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), dict):
            result[keyword] = _closed(schema[keyword])
    return result
