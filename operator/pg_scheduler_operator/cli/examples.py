"""Where the examples are: in the wheel beside this package, in a checkout at the top."""

from pathlib import Path

import pg_scheduler_operator

APP_FILE = "tasks.py"
_PACKAGE = Path(pg_scheduler_operator.__file__).parent
_PLACES = (_PACKAGE / "examples", _PACKAGE.parents[1] / "examples")


def manifests() -> Path:
    """The folder of example manifests.

    Raises:
        FileNotFoundError: neither a wheel nor a checkout is around this package.
    """
    for place in _PLACES:
        if (place / "manifests").is_dir():
            return place / "manifests"
    raise FileNotFoundError(f"no folder manifests in {' or '.join(map(str, _PLACES))}")


def app_beside(folder: Path) -> Path:
    """The file of tasks that belongs to a folder of manifests."""
    return folder.absolute().parent / APP_FILE
