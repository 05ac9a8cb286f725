from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler_operator.errors import InvalidManifest
from pg_scheduler_operator.gateway.manifests import load, plain, read_manifests
from pg_scheduler_operator.resources import Kind

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "apiVersion: pgscheduler.io/v1alpha1\nkind: ScheduledJob\nmetadata: {name: a}\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # what kubectl 1.36 made of each, seen in objects read back from the API server
        ("12:30", "12:30"),
        ("2026-01-01", "2026-01-01"),
        ("2026-12-01T09:00:00Z", "2026-12-01T09:00:00Z"),
        ("017", 15),
        ("0o17", 15),
        ("08", 8),
        ("0x1F", 31),
        ("-0x1f", -31),
        ("0b11", 3),
        ("1_000", 1000),
        ("+5", 5),
        ("1e3", 1000),
        ("5.0", 5),
        (".5", 0.5),
        ("1e400", "1e400"),
        ("12345678901234567890123", 1.2345678901234568e22),
        ("9223372036854775808", 9223372036854776000),
        ("9223372036854775807", 9223372036854775807),
        ("y", True),
        ("n", False),
        ("Off", False),
        ("on", True),
        ("~", None),
        ("Null", None),
        ("nULL", "nULL"),
        ("'y'", "y"),
        ('"12"', "12"),
        ("-", [None]),
        ("+", "+"),
        ("0x", "0x"),
        ("1.2.3", "1.2.3"),
        ("1__0", 10),
        ("=", "="),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_scalar_means_what_it_means_to_kubectl(text: str, value: Any) -> None:
    (loaded,) = load(text)

    assert json.dumps(loaded) == json.dumps(value)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("n: 1", ["false"]),
        ("y: 1", ["true"]),
        ("5: 1", ["5"]),
        ("1.5: 1", ["1.5"]),
        ("1e3: 1", ["1000"]),
        ("'n': 1", ["n"]),
    ],
)
def test_key_is_text(text: str, keys: list[str]) -> None:
    (loaded,) = load(text)

    assert list(loaded) == keys


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: .nan", "the number nan"),
        ("a: -.inf", "the number -inf"),
        ("a: !!timestamp 2026-01-01", "a date"),
        ("a: !!binary YQ==", "a bytes"),
        ("!!set {a}", "a set"),
        ("~: 1", "a key of type NoneType"),
        ("? [1]\n: 1", "line 1"),
        ("a: *b", "line 1"),
        ("a: !!python/object:x {}", "line 1"),
        ("a: !!int x", "ValueError"),
        ("a: !!bool x", "KeyError"),
        ("a: !!timestamp x", "AttributeError"),
        ("a: &a [*a]", "RecursionError"),
        ("\x00", "ReaderError"),
    ],
)
def test_what_json_cannot_say_is_refused(text: str, says: str) -> None:
    with pytest.raises(InvalidManifest, match=says):
        load(text)


def test_error_names_the_place_and_quotes_nothing() -> None:
    with pytest.raises(InvalidManifest) as caught:
        load("a: 1\nb: [c4n4ry\nc: 2")

    assert "line 3" in str(caught.value)
    assert "c4n4ry" not in str(caught.value)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(InvalidManifest):
        load("[" * 5000)


@given(st.text(min_size=1, max_size=12))
def test_plain_scalar_is_a_json_value_or_the_text_itself(text: str) -> None:
    value = plain(text)

    assert value is text or value is None or isinstance(value, bool | int | float)


@given(st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False))
def test_number_written_as_json_is_that_number(number: float) -> None:
    ((loaded,),) = load(json.dumps([number]))

    assert loaded == number or float(loaded) == float(number)


def test_file_may_hold_several_objects_lists_and_objects_of_others(tmp_path: Path) -> None:
    item = {"apiVersion": "pgscheduler.io/v1alpha1", "kind": "WorkerPool", "metadata": {"name": "w", "namespace": "n"}}
    file = tmp_path / "a.yaml"
    file.write_text(
        HEAD + "spec: {x: 1}\n---\n---\napiVersion: apps/v1\nkind: Deployment\n---\n"
        "apiVersion: v1\nkind: List\nitems: [" + json.dumps(item) + "]\n"
    )

    first, second = read_manifests(file)

    assert (str(first.key), first.spec) == ("ScheduledJob default/a", {"x": 1})
    assert (second.key.kind, second.key.namespace) == (Kind.WORKER_POOL, "n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- 1", "list"),
        ("just text", "str"),
        ("kind: ScheduledJob", "apiVersion"),
        ("apiVersion: pgscheduler.io/v2\nkind: ScheduledJob\nmetadata: {name: a}", "nobody serves"),
        ("apiVersion: pgscheduler.io/v1alpha1\nkind: CronJob\nmetadata: {name: a}", "nobody serves"),
        ("apiVersion: pgscheduler.io/v1alpha1\nkind: ScheduledJob", "name"),
        ("apiVersion: pgscheduler.io/v1alpha1\nkind: ScheduledJob\nmetadata: {name: A_b}", "name"),
        ("apiVersion: pgscheduler.io/v1alpha1\nkind: ScheduledJob\nmetadata: {name: a, namespace: ../b}", "namespace"),
        ("apiVersion: pgscheduler.io/v1alpha1\nkind: ScheduledJob\nmetadata: {name: 5}", "name"),
    ],
)
def test_object_that_nobody_can_serve_is_refused(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text)

    with pytest.raises(InvalidManifest, match=says):
        read_manifests(file)


def test_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(InvalidManifest, match="cannot be read"):
        read_manifests(file)
