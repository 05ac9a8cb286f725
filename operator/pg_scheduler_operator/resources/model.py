"""What the models of all kinds are made of.

Invariant: models are closed, immutable and strict, so that a folder of files gets the answers that an API server gives
by the generated schema.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema, model_validator


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join("ID" if word == "id" else word.capitalize() for word in rest)


class Model(BaseModel):
    """Closed, immutable, strictly typed; null means unset, as for the API server."""

    model_config = ConfigDict(
        alias_generator=_camel,
        populate_by_name=True,
        frozen=True,
        extra="forbid",
        strict=True,
        hide_input_in_errors=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: Any) -> Any:
        return {name: value for name, value in data.items() if value is not None} if isinstance(data, dict) else data


_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)


def _instant(value: Any) -> Any:
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or not _RFC3339.fullmatch(value):
        raise ValueError('write it as "2026-12-01T09:00:00Z", with its zone')
    return datetime.fromisoformat(value)


def stamp(instant: datetime) -> str:
    """An instant as Kubernetes writes it: UTC, whole seconds."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


Instant = Annotated[datetime, BeforeValidator(_instant), PlainSerializer(stamp, return_type=str)]
Json = Annotated[Any, WithJsonSchema({"x-kubernetes-preserve-unknown-fields": True, "nullable": True})]
ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]


def cel(rule: str, message: str, field_path: str | None = None) -> dict[str, str]:
    """One rule that the API server evaluates, as the schema carries it."""
    path = {} if field_path is None else {"fieldPath": field_path}
    return {"rule": rule, "message": message, **path}


def rules(*validations: dict[str, str]) -> Any:
    """Rules of a model or a field, for ``json_schema_extra``."""
    return {"x-kubernetes-validations": list(validations)}


BEFORE_9999: Final = cel("self < timestamp('9999-01-01T00:00:00Z')", "must be before the year 9999")


def before_9999(value: datetime) -> datetime:
    """The check of ``BEFORE_9999``; not in UTC, which may lie beyond what Python can say."""
    if value >= _YEAR_9999:
        raise ValueError(BEFORE_9999["message"])
    return value


_YEAR_9999: Final = datetime(9999, 1, 1, tzinfo=UTC)
