"""What the operator is told by its environment.

Invariant: the data source name is a secret from the moment it is read; no error repeats a value.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from pg_scheduler.errors import InvalidArgument, InvalidDsn

_PREFIX = "PGSCHEDULER_"
_NAME = r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$"
_POD_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

_WORDS = {"missing": "it is not set", "too_short": "it is empty", "string_too_short": "it is empty"}

Name = Annotated[str, Field(pattern=_NAME)]


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
        why = _WORDS.get(first["type"], first["msg"])
        raise InvalidArgument(f"${variable} cannot be used", why=why, fix=f"set ${variable}") from None
