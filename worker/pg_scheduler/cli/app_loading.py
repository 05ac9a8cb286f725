"""What a person names to ``pgscheduler worker``, imported.

Invariant: this is the only place where a name becomes an import, and the name comes from the command line, never from
a row or a manifest. Whatever is wrong with the name or the code behind it is ``AppNotFound``.

``APP`` is one of ``module``, ``module:attribute`` (a factory ``(pool) -> Scheduler``), or a path that ends in ``.py``.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pg_scheduler.errors import AppNotFound, PgSchedulerError
from pg_scheduler.periodic import registry as periodic_registry
from pg_scheduler.tasks import Registry, key_of
from pg_scheduler.tasks import registry as tasks_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from types import ModuleType

    from pg_scheduler.tasks import TaskFunction

SHOWN_LENGTH = 200
FORMS = "give a module (shop.tasks), a factory (shop.app:make_scheduler) or a path that ends in .py (tasks.py)"


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """One APP: the module that was imported, and the factory in it if one was named."""

    name: str
    module: ModuleType
    factory: Callable[[Any], Any] | None = None

    def require_tasks(self, new_keys: Collection[str]) -> None:
        """Refuse a module that neither defines a task nor has named one while it was imported."""
        if self.factory is not None or new_keys or Registry().add_module(self.module):
            return
        if any(function.__module__ == self.module.__name__ for function in _named_functions().values()):
            return
        raise AppNotFound(
            f"{_short(self.name)} holds no task",
            why="it defines no public async function, and marks none with @task or @periodic",
            fix="a task is an async def at the top level of the module",
        )


def load(name: str) -> App:
    """Import what ``name`` says; folders of modules and files are looked up from the working folder first.

    Raises:
        AppNotFound: the form is wrong, nothing is there, it does not import, it holds no task, or the attribute is not
            callable.
    """
    keys_before = set(_named_functions())
    app = _import(name)
    app.require_tasks(set(_named_functions()) - keys_before)
    return app


def _import(name: str) -> App:
    target, colon, attribute = name.partition(":")
    if target.endswith(".py"):
        if colon:
            raise AppNotFound(f"a path takes no attribute: {_short(name)}", fix=FORMS)
        return App(name=name, module=_import_file(Path(target)))
    _require_module_name(target)
    module = _import_module(target)
    return App(name=name, module=module, factory=_factory(module, attribute) if colon else None)


def locate(name: str) -> Path | None:
    """The file that holds ``name``, found without importing it; None if it is installed rather than in this folder.

    Raises:
        AppNotFound: the form is wrong, or nothing is there.
    """
    target = name.partition(":")[0]
    if target.endswith(".py"):
        return _require_file(Path(target))
    _require_module_name(target)
    stem = Path(*target.split("."))
    found = next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)
    if found is None and find_spec(target.partition(".")[0]) is None:
        raise _no_module(target)
    return found


def _named_functions() -> dict[str, TaskFunction]:
    """What decorators of this process have named so far."""
    periodic = {key_of(definition.func): definition.func for definition in periodic_registry.all().values()}
    return tasks_registry.functions() | periodic


def _import_module(name: str) -> ModuleType:
    _look_first_in(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if missing.name and f"{name}.".startswith(f"{missing.name}."):
            raise _no_module(missing.name) from missing
        raise _does_not_import(name, missing) from missing
    except (Exception, SystemExit) as error:
        raise _does_not_import(name, error) from error


def _import_file(path: Path) -> ModuleType:
    name = _require_file(path).stem
    if name in sys.modules:
        raise AppNotFound(
            f"a module named {name} is loaded already",
            why=f"the file {_short(str(path))} would become the module {name}",
            fix="give the file another name, or name it as a module",
        )
    _look_first_in(path.absolute().parent)
    spec = spec_from_file_location(name, path.absolute())
    if spec is None or spec.loader is None:
        raise AppNotFound(f"not a Python file: {_short(str(path))}")
    module = module_from_spec(spec)
    sys.modules[name] = module  # as import does: the file's own dataclasses and its neighbours look it up here
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _does_not_import(str(path), error) from error
    return module


def _require_file(path: Path) -> Path:
    if not path.is_file():
        raise AppNotFound(f"no such file: {_short(str(path))}", why=f"looked in {path.absolute().parent}")
    return path


def _require_module_name(target: str) -> None:
    if not all(part.isidentifier() for part in target.split(".")):
        raise AppNotFound(f"neither a module nor a path that ends in .py: {_short(target)}", fix=FORMS)


def _no_module(name: str) -> AppNotFound:
    return AppNotFound(
        f"no module named {_short(name)}",
        why="looked in the working folder and in those of sys.path",
        fix="run it from the folder that holds the module, or install the package",
    )


def _look_first_in(folder: Path) -> None:
    if sys.path[:1] != [str(folder)]:
        sys.path.insert(0, str(folder))


def fault_of_the_app(what: str, error: BaseException, *, fix: str = "") -> PgSchedulerError:
    """What the user's code raised, as an error that names the line; our own errors say more than that."""
    if isinstance(error, PgSchedulerError):
        return error
    return AppNotFound(f"{what}: {type(error).__name__}: {_short(str(error))}", why=_place_of(error), fix=fix)


def _does_not_import(name: str, error: BaseException) -> PgSchedulerError:
    command = f"python {name}" if name.endswith(".py") else f"python -c 'import {name}'"
    return fault_of_the_app(f"{_short(name)} does not import", error, fix=f"`{command}` shows the traceback")


def _place_of(error: BaseException) -> str:
    """Where in the user's code it was raised; a syntax error carries its own place."""
    if isinstance(error, SyntaxError):
        return f"at {error.filename}:{error.lineno}"
    frames = error.__traceback__
    place = ""
    while frames is not None:
        filename = frames.tb_frame.f_code.co_filename
        if not filename.startswith("<frozen") and filename != __file__:
            place = f"at {filename}:{frames.tb_lineno}"
        frames = frames.tb_next
    return place


def _factory(module: ModuleType, attribute: str) -> Callable[[Any], Any]:
    factory = getattr(module, attribute, None)
    if not callable(factory):
        what = "has no attribute" if factory is None else "holds something that is not callable under"
        raise AppNotFound(
            f"{module.__name__} {what} {_short(attribute)!r}",
            fix="after the colon stands a function that takes a connection pool and returns a Scheduler",
        )
    made: Callable[[Any], Any] = factory
    return made


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_LENGTH else f"{line[:SHOWN_LENGTH]}…"
