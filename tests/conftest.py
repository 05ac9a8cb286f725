"""What every test may use; each plugin's own docstring says what it gives."""

from hypothesis import settings

pytest_plugins = ["support.needs", "support.databases", "support.leaks", "support.progress"]

# The clock of a shared machine is no property of the code.
settings.register_profile("pgscheduler", deadline=None, print_blob=True)
settings.load_profile("pgscheduler")
