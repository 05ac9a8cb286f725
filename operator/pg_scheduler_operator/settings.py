"""What the operator is told by its environment.

Invariant: the data source name is a secret from the moment it is read; no error repeats a value.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from pg_scheduler import tenant_limits
from pg_scheduler.errors import InvalidArgument, InvalidDsn
from pg_scheduler.pool_settings import RATE_LIMIT_MAX, RATE_SECONDS_MAX, RateLimit
from pg_scheduler.tenant_limits import MIN_INTERVAL_SECONDS_MAX, PENDING_MAX

_PREFIX = "PGSCHEDULER_"
_NAME = r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$"
_POD_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

_WORDS = {"missing": "it is not set", "too_short": "it is empty", "string_too_short": "it is empty"}

Name = Annotated[str, Field(pattern=_NAME)]


class _Limits(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, hide_input_in_errors=True, strict=True
    )


class MaxRate(_Limits):
    """So many jobs in any so many seconds."""

    limit: int = Field(ge=1, le=RATE_LIMIT_MAX)
    per_seconds: int = Field(ge=1, le=RATE_SECONDS_MAX)


class TenantLimits(_Limits):
    """What one namespace may ask for; what is not given is not limited."""

    max_pending: int | None = Field(default=None, ge=1, le=PENDING_MAX)
    max_rate: MaxRate | None = None
    min_interval_seconds: int | None = Field(default=None, ge=1, le=MIN_INTERVAL_SECONDS_MAX)

    @property
    def stored(self) -> tenant_limits.TenantLimits:
        """As the database takes them."""
        rate = self.max_rate
        return tenant_limits.TenantLimits(
            max_pending=self.max_pending,
            max_rate=None if rate is None else RateLimit(limit=rate.limit, seconds=rate.per_seconds),
            min_interval_seconds=self.min_interval_seconds,
        )


class Settings(BaseSettings):
    """One operator serves one database, under one cluster name, in some namespaces or in all."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True)

    dsn: SecretStr | None = Field(
        default=None, min_length=1, description="The database, as postgresql://user:password@host:5432/database."
    )
    dsn_file: Path | None = Field(
        default=None,
        description="A file with that URL, instead; read again for each connection, so that a password may change.",
    )
    allow_insecure: bool = Field(
        default=False,
        description="Connect over a network without TLS, or without a proof of who answers, if the URL says no better.",
    )
    migrate: bool = Field(
        default=True,
        description="Make or update the tables at the start; false: wait until somebody has, by pgscheduler migrate.",
    )
    cluster_name: Name = Field(
        default="default",
        description="Stored in each row; differs between clusters of one database, where it must be set.",
    )
    watch_namespaces: Annotated[tuple[Name, ...], NoDecode] = Field(
        default=(), description="Namespaces separated by commas; unset or empty: all."
    )
    leader_election: bool = Field(
        default=True,
        description="Serve only while holding a Lease, so that several operators may stand by. Off where no namespace "
        "is known for it, as outside of a pod.",
    )
    lease_namespace: Name | None = Field(default=None, description="Namespace of the Lease; unset: the pod's own.")
    lease_name: Name = Field(default="pgscheduler-operator", description="Name of the Lease, which must exist.")
    adopt_by_name: bool = Field(
        default=False,
        description="After a restore: take over the rows of objects of the same namespace and name, ended ones too.",
    )
    status_writes_per_second: float = Field(
        default=50, gt=0, le=1000, description="Statuses written a second at most, once the burst is used up."
    )
    status_writes_burst: float = Field(default=400, ge=1, le=100_000, description="Statuses written at once.")
    status_error_text: bool = Field(
        default=False,
        description="Show 256 characters of the last error's text in statuses, for all who may read the object. "
        "It may hold data of the job.",
    )

    tenant_limits: Annotated[Mapping[Literal["*"] | Name, TenantLimits], NoDecode] = Field(
        default={},
        description="What namespaces may ask for, as JSON: "
        '{"billing": {"maxPending": 10000, "maxRate": {"limit": 600, "perSeconds": 60}, "minIntervalSeconds": 60}}; '
        "the entry * is that of each namespace without one of its own.",
    )

    @field_validator("tenant_limits", mode="before")
    @classmethod
    def _parse(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value or "{}")
        except ValueError as error:
            raise PydanticCustomError("json", "it is no JSON") from error

    @field_validator("watch_namespaces", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(name for name in (part.strip() for part in value.split(",")) if name)
        return value

    @model_validator(mode="after")
    def _one_database(self) -> Self:
        if (self.dsn is None) == (self.dsn_file is None):
            how_many = "neither is set" if self.dsn is None else "both are set"
            raise PydanticCustomError(
                "one_database", "of it and $PGSCHEDULER_DSN_FILE {how_many}", {"how_many": how_many}
            )
        return self

    def read_dsn(self) -> str:
        """The data source name as it is now.

        Raises:
            InvalidDsn: its file cannot be read.
        """
        if self.dsn_file is None:
            return "" if self.dsn is None else self.dsn.get_secret_value()
        try:
            return self.dsn_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidDsn(
                f"the file of ${_PREFIX}DSN_FILE cannot be read", why=type(error).__name__, fix="mount the Secret there"
            ) from None

    @property
    def election_namespace(self) -> str | None:
        """Where the Lease is; None where none is to be held."""
        if not self.leader_election:
            return None
        return self.lease_namespace or _pod_namespace()


def _pod_namespace() -> str | None:
    return _POD_NAMESPACE.read_text(encoding="utf-8").strip() if _POD_NAMESPACE.is_file() else None


def load(**given: Any) -> Settings:
    """The settings of this process's environment, but for those ``given``.

    Raises:
        InvalidArgument: a variable is missing or cannot be used.
    """
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        variable = _PREFIX + str((first["loc"] or ("dsn",))[0]).upper()
        inside = ".".join(str(part) for part in first["loc"][1:] if part != "[key]")
        why = (f"{inside}: " if inside else "") + _WORDS.get(first["type"], first["msg"])
        raise InvalidArgument(f"${variable} cannot be used", why=why, fix=f"set ${variable}") from None
