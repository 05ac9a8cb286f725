"""``Scheduler`` keeps the signatures that its users know: ``seed_signatures.txt``, one method a line.

Ours may add defaulted keyword-only parameters, annotate what the seed leaves bare, say what a ``list`` holds,
and write ``| None`` where the default is None. Names, order, kinds, defaults, other annotations and ``async`` are its.
"""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import pytest

from pg_scheduler import Scheduler

WIDER = {"jobs": {"Iterable"}}
"""What a parameter takes beyond the seed (design page 3 §3.3: schedule_bulk reads an iterator batch by batch)."""

SEED = {
    re.sub(r"^async ", "", line).partition("(")[0]: line
    for line in Path(__file__).with_name("seed_signatures.txt").read_text().splitlines()
}
SERVED = sorted(SEED)


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    kind: str
    annotation: frozenset[str]
    default: str | None

    def accepts(self, seed: Parameter) -> bool:
        added = self.annotation - seed.annotation if seed.annotation else frozenset()
        return (
            (self.name, self.kind, self.default) == (seed.name, seed.kind, seed.default)
            and self.annotation >= seed.annotation
            and added <= ({"None"} if seed.default == "None" else set()) | WIDER.get(self.name, set())
        )


def members(annotation: str) -> frozenset[str]:
    """The parts of a union, without what generic types hold and without module names."""
    bare = annotation.replace("'", "").replace("List", "list").replace("Dict", "dict")
    while (shorter := re.sub(r"\[[^\[\]]*\]", "", bare)) != bare:
        bare = shorter
    return frozenset(part.strip().rpartition(".")[2] for part in bare.split("|") if part.strip())


def shown(default: object) -> str:
    """A default as the seed shows it."""
    if isinstance(default, Enum) and type(default).__repr__ is Enum.__repr__:
        return f"{type(default).__name__}.{default.name}"
    return re.sub(r"<object object.*>", "<object object>", repr(default))


def seed_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[Parameter]:
    arguments = function.args
    missing = [None] * (len(arguments.args) - len(arguments.defaults))
    both = [
        ("POSITIONAL_OR_KEYWORD", *pair) for pair in zip(arguments.args, [*missing, *arguments.defaults], strict=True)
    ]
    both += [("KEYWORD_ONLY", *pair) for pair in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    return [
        Parameter(
            name=argument.arg,
            kind=kind,
            annotation=members(ast.unparse(argument.annotation) if argument.annotation else ""),
            default=None if default is None else ast.unparse(default).strip("'"),
        )
        for kind, argument, default in both
    ]


def our_parameters(signature: inspect.Signature) -> list[Parameter]:
    return [
        Parameter(
            name=parameter.name,
            kind=parameter.kind.name,
            annotation=members(text_of(parameter.annotation)),
            default=None if parameter.default is parameter.empty else shown(parameter.default),
        )
        for parameter in list(signature.parameters.values())[1:]
    ]


def text_of(annotation: object) -> str:
    if annotation is inspect.Signature.empty:
        return ""
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def seed_function(name: str) -> ast.FunctionDef | ast.AsyncFunctionDef:
    kind, text = ("async def", SEED[name][6:]) if SEED[name].startswith("async ") else ("def", SEED[name])
    quoted = re.sub(r"<[^<>]*>", r"'\g<0>'", text)
    (function,) = ast.parse(f"{kind} {quoted}: ...").body
    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    return function


@pytest.mark.parametrize("name", SERVED)
def test_method_has_the_signature_of_the_seed(name: str) -> None:
    method = getattr(Scheduler, name)
    seed, ours = seed_function(name), inspect.signature(method)
    known, added = (
        our_parameters(ours)[: len(seed_parameters(seed))],
        our_parameters(ours)[len(seed_parameters(seed)) :],
    )

    assert inspect.iscoroutinefunction(method) == isinstance(seed, ast.AsyncFunctionDef)
    assert [p for p, expected in zip(known, seed_parameters(seed), strict=True) if not p.accepts(expected)] == []
    assert all(parameter.kind == "KEYWORD_ONLY" and parameter.default is not None for parameter in added), added
    if seed.returns:
        assert members(text_of(ours.return_annotation)) == members(ast.unparse(seed.returns))


def test_constants_are_those_of_the_seed() -> None:
    assert (Scheduler.HEARTBEAT_THRESHOLD, Scheduler.LEASE_DURATION, Scheduler.WORKER_ID_LENGTH) == (120, 60, 8)
