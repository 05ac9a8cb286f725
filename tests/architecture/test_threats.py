"""What no module may do, so that what an attacker writes is never run."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from support.paths import parsed, shipped_modules, short_name

if TYPE_CHECKING:
    from collections.abc import Iterator

MODULES = {short_name(module): parsed(module) for module in shipped_modules()}
_MAKES_OBJECTS_OF_BYTES = {"dill", "marshal", "pickle", "shelve"}
_DEBUGGERS = {"bdb", "cProfile", "code", "codeop", "debugpy", "pdb", "profile", "trace", "tracemalloc"}
_HANDS_OVER_THE_PROCESS = {"breakpoint", "interact", "set_trace", "setprofile", "settrace"}
_RUNS_TEXT = {"__import__", "compile", "eval", "exec", "import_module"}
_LOADS_WHAT_THE_COMMAND_LINE_NAMES = "worker/pg_scheduler/cli/app_loading.py"
_BEGINS_A_STATEMENT = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH|CREATE|ALTER|DROP|GRANT|REVOKE|SET|CALL)\s")
# What they put in are names: of the database's own catalogue, of a migration's, or out of a table of options.
_PUT_A_KNOWN_NAME_IN = {
    "worker/pg_scheduler/_store/adoption.py",
    "worker/pg_scheduler/_store/clock.py",
    "worker/pg_scheduler/_store/head_schema.py",
    "worker/pg_scheduler/_store/migrator.py",
    "worker/pg_scheduler/contrib/sqlalchemy.py",
}


def test_nothing_is_unpickled() -> None:
    assert [name for name, tree in MODULES.items() if _imports(tree) & _MAKES_OBJECTS_OF_BYTES] == []


def test_no_text_is_run_and_what_is_imported_by_name_is_named_by_the_command_line() -> None:
    found = {name: calls for name, tree in MODULES.items() if (calls := _RUNS_TEXT.intersection(_calls(tree)))}

    assert found == {_LOADS_WHAT_THE_COMMAND_LINE_NAMES: {"import_module"}}


def test_no_module_opens_a_debugger_or_a_profiler() -> None:
    assert [name for name, tree in MODULES.items() if _imports(tree) & _DEBUGGERS] == []
    assert [name for name, tree in MODULES.items() if _HANDS_OVER_THE_PROCESS.intersection(_calls(tree))] == []


def test_no_statement_is_put_together_from_values() -> None:
    found = {name for name, tree in MODULES.items() if any(_assembled_statements(tree))}

    assert found == _PUT_A_KNOWN_NAME_IN


def test_what_is_looked_for_is_found() -> None:
    tree = ast.parse("from pickle import loads\nx = builtins.eval(a)\ny = f'SELECT {a}'\nz = 'SELECT %s' % a\n")

    assert _imports(tree) == {"pickle"}
    assert list(_calls(tree)) == ["eval"]
    assert list(_assembled_statements(tree)) == [3, 4]


def _imports(tree: ast.Module) -> set[str]:
    plain = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    others = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in plain | others}


def _calls(tree: ast.Module) -> Iterator[str]:
    """Names of what is called: f() and a.f(), but for re.compile."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                yield node.func.id
            elif isinstance(node.func, ast.Attribute) and ast.unparse(node.func) != "re.compile":
                yield node.func.attr


def _assembled_statements(tree: ast.Module) -> Iterator[int]:
    """Lines of texts that begin like SQL and take in something else."""
    for node in ast.walk(tree):
        match node:
            case ast.JoinedStr(values=[ast.Constant(value=str(text)), _, *_]) if _BEGINS_A_STATEMENT.match(text):
                yield node.lineno
            case ast.BinOp(left=ast.Constant(value=str(text))) if _BEGINS_A_STATEMENT.match(text):
                yield node.lineno
            case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(text)), attr="format")) if (
                _BEGINS_A_STATEMENT.match(text)
            ):
                yield node.lineno
