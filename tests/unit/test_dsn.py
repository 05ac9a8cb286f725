import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler._store.dsn import checked_dsn, where
from pg_scheduler.errors import InvalidDsn

SECRET = "s3cr3t-canary"  # noqa: S105  a canary, not a password


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://app:p%40ss@db:5432/app",
        "postgres://db/app",
        "postgresql://app@[::1]:5433/app",
        "postgresql://app@a:1,b:2/app",
        "postgresql://postgres@/postgres?host=/tmp/socket",
        "postgresql://app@db/app?sslmode=verify-full",
    ],
)
def test_usable_dsns_pass_unchanged(dsn: str) -> None:
    assert checked_dsn(f"  {dsn}\n") == dsn


@pytest.mark.parametrize(
    "dsn",
    [
        "",
        "   ",
        f"mysql://app:{SECRET}@db/app",
        f"app:{SECRET}@db",
        f"postgresql:///{SECRET}",
        f"postgresql://app:{SECRET}@/app",
        f"postgresql://app:{SECRET}@db:54x2/app",
        f"postgresql://app:{SECRET}@[::1/app",
        f"postgresql://app:{SECRET}@db/app?sslmode=bogus",
        f"postgresql://app@db/app?password={SECRET}&",
        f"postgresql://app@db/app?{SECRET}",
        f"postgresql://app:p@{SECRET}@db/app",
        f"postgresql://app:{SECRET}@d\u0660..b/app",
    ],
)
def test_other_dsns_are_refused_without_being_repeated(dsn: str) -> None:
    with pytest.raises(InvalidDsn) as caught:
        checked_dsn(dsn)

    assert SECRET not in str(caught.value)
    assert caught.value.fix


@given(st.text(min_size=6).filter(lambda text: text.strip() == text))
def test_no_error_ever_repeats_the_text(text: str) -> None:
    with pytest.raises(InvalidDsn) as caught:
        checked_dsn(f"mysql://{text}")

    assert text not in str(caught.value)


def test_where_names_the_place_and_never_the_password() -> None:
    shown = where(f"postgresql://app:{SECRET}@db:5432/orders")

    assert shown == "host db:5432, database orders, user app"


def test_where_names_a_socket() -> None:
    assert where("postgresql://postgres@/postgres?host=%2Ftmp%2Fx") == "host /tmp/x, database postgres, user postgres"
