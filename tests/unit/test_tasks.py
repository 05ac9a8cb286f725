from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pg_scheduler.errors import InvalidArgument
from pg_scheduler.tasks import Registry, key_of


async def plain() -> None: ...


class Service:
    async def method(self) -> None: ...


async def generator() -> Any:
    yield 1


@pytest.mark.parametrize("thing", [lambda: None, print, partial(plain), Service().method, generator, "plain", None])
def test_registry_refuses_what_is_no_async_function(thing: Any) -> None:
    with pytest.raises(TypeError, match="Only async functions"):
        Registry().add(thing)


def test_registry_keys_are_module_and_qualname() -> None:
    assert Registry().add(plain) == f"{__name__}:plain"


def function_named(name: str, body: str, module: str = "m") -> Any:
    namespace: dict[str, Any] = {"__name__": module}
    exec(f"async def {name}():\n    {body}", namespace)  # noqa: S102  two functions that share a key
    return namespace[name]


def test_registry_takes_the_same_code_twice_and_other_code_never() -> None:
    registry = Registry()
    registry.add(plain)
    registry.add(plain)

    with pytest.raises(InvalidArgument, match="taken"):
        registry.add(Service().method.__func__, key_of(plain))  # type: ignore[attr-defined]


def test_two_functions_of_one_name_in_two_modules_both_run() -> None:
    registry = Registry()
    keys = [registry.add(function_named("send", "return 1", module)) for module in ("a", "b")]

    assert keys == ["a:send", "b:send"]
    assert registry.named("send") == keys


def test_a_module_registers_its_own_public_async_functions() -> None:
    module = ModuleType("shop")
    vars(module).update(
        send=function_named("send", "pass", "shop"),
        _hidden=function_named("_hidden", "pass", "shop"),
        borrowed=function_named("borrowed", "pass", "elsewhere"),
        plain=print,
    )

    assert Registry().add_module(module) == ["shop:send"]


def test_a_bare_name_means_the_one_function_that_is_called_so() -> None:
    registry = Registry()
    send = function_named("send", "return 1", "shop")
    registry.add(send)
    registry.add(send, "mail.send")

    assert registry.claimable() == ["mail.send", "send", "shop:send"]
    assert registry["send"] is send
    assert registry.unclear_names() == {}
    assert registry.keys() == ["mail.send", "shop:send"]


def test_a_bare_name_that_two_functions_share_means_neither() -> None:
    registry = Registry()
    for module in ("shop", "mail"):
        registry.add(function_named("send", "return 1", module))

    assert registry.claimable() == ["mail:send", "shop:send"]
    assert registry.unclear_names() == {"send": ["shop:send", "mail:send"]}
    with pytest.raises(KeyError):
        registry["send"]


def test_a_key_is_never_read_as_a_bare_name() -> None:
    registry = Registry()
    meant = function_named("deliver", "return 1", "mail")
    registry.add(function_named("send", "return 1", "shop"))
    registry.add(meant, "send")

    assert registry["send"] is meant
    assert registry.claimable() == ["deliver", "send", "shop:send"]


def test_a_module_loaded_under_two_names_is_one_function(tmp_path: Path) -> None:
    file = tmp_path / "shop.py"
    file.write_text("async def send(): ...\n")
    registry = Registry()
    for name in ("shop", "__main__"):
        namespace: dict[str, Any] = {"__name__": name}
        exec(compile(file.read_text(), str(file), "exec"), namespace)  # noqa: S102 - as an import does
        registry.add(namespace["send"])

    assert registry.claimable() == ["__main__:send", "send", "shop:send"]


def test_our_own_tasks_have_no_bare_name() -> None:
    registry = Registry()
    registry.add(function_named("ping", "return 1", "pg_scheduler.cli.ping"), "pgscheduler.ping")

    assert registry.claimable() == ["pgscheduler.ping"]
