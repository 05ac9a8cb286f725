"""What the operator is told by its environment.

Invariant: the data source name is a secret from the moment it is read; no error repeats a value.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from pg_scheduler.errors import InvalidArgument

_PREFIX = "PGSCHEDULER_"
_NAME = r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$"

_WORDS = {"missing": "it is not set", "too_short": "it is empty", "string_too_short": "it is empty"}

Namespace = Annotated[str, Field(pattern=_NAME)]


class Settings(BaseSettings):
    """One operator serves one database, under one cluster name, in some namespaces or in all."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True)

    dsn: SecretStr = Field(min_length=1, description="postgresql:// URL of the database.")
    cluster_name: str = Field(
        default="default", pattern=_NAME, description="Stored in each row; differs between clusters of one database."
    )
    watch_namespaces: Annotated[tuple[Namespace, ...], NoDecode] = Field(
        default=(), description="Namespaces parted by commas; empty means the whole cluster."
    )

    @field_validator("watch_namespaces", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(name for name in (part.strip() for part in value.split(",")) if name)
        return value


def load() -> Settings:
    """The settings of this process's environment.

    Raises:
        InvalidArgument: a variable is missing or cannot be used.
    """
    try:
        return Settings.model_validate({})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        variable = _PREFIX + str(first["loc"][0]).upper()
        why = _WORDS.get(first["type"], first["msg"])
        raise InvalidArgument(f"${variable} cannot be used", why=why, fix=f"set ${variable}") from None
