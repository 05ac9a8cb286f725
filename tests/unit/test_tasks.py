from functools import partial
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
