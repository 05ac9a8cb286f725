"""What every test may use; each plugin's own docstring says what it gives."""

from importlib import import_module

import pytest
from hypothesis import settings

from pg_scheduler import scheduler
from pg_scheduler.cli import app_loading
from pg_scheduler.periodic import PeriodicRegistry

pytest_plugins = ["support.needs", "support.databases", "support.leaks", "support.progress"]

# The clock of a shared machine is no property of the code.
settings.register_profile("pgscheduler", deadline=None, print_blob=True)
settings.load_profile("pgscheduler")


@pytest.fixture(autouse=True)
def _own_declarations(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``@periodic`` declares is the process's: a module that one test loads must not tick in the next."""
    registry = PeriodicRegistry()
    monkeypatch.setattr(import_module("pg_scheduler.periodic"), "registry", registry)
    for user in (scheduler, app_loading):
        monkeypatch.setattr(user, "periodic_registry", registry)
