"""What a process sees of the image it runs in, as JSON: for `python -` in a pod."""

import json
import os
import subprocess
import sys
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

import click

from pg_scheduler.cli.group import pgscheduler

_OURS = Path(sys.prefix)
_DEBUGGERS = (
    *("IPython", "aiomonitor", "debugpy", "ipdb", "manhole", "memray", "ptvsd", "pudb", "pydevd", "pyinstrument"),
    *("remote_pdb", "rpdb", "viztracer", "werkzeug", "yappi"),
)
_HOOKS = (b"KOPF_DEV", b"pprof", b"/debug/")
"""Switches of development, and addresses at which servers of other languages show what they do."""
_QUIET = ("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PYTHON_VERSION", "PYTHON_SHA256")
"""Those of ours, and what Docker's own base image says of itself."""
_NEVER_OPENED = (".a", ".c", ".h", ".pyi", ".pyx", ".pxd")


def _size(root: Path) -> int:
    """Of its files, on its own file system, those with several names once."""
    device, sizes = root.lstat().st_dev, {}
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        folders[:] = [name for name in folders if (here / name).lstat().st_dev == device]
        for name in files:
            found = (here / name).lstat()
            if found.st_dev == device:
                sizes[found.st_ino] = found.st_size
    return sum(sizes.values())


def _can_write(folder: Path) -> bool:
    try:
        (folder / "written").touch()
    except OSError:
        return False
    return True


def _helps() -> dict[str, int]:
    return {
        name: subprocess.run(["pgscheduler", name, "--help"], capture_output=True, check=False).returncode
        for name in pgscheduler.list_commands(click.Context(pgscheduler))
    }


def _compiled_at_start() -> list[str]:
    """Sources of an operator's or a worker's modules that have no bytecode: each start would compile them."""
    start = "import pg_scheduler.cli.worker_process, pg_scheduler._serving.server, pg_scheduler_operator.app"
    told = subprocess.run([sys.executable, "-v", "-c", start], capture_output=True, text=True, check=True).stderr
    return [line for line in told.splitlines() if line.startswith("# code object from /")]  # bytecode's path is quoted


def _process() -> dict[str, str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _debug_hooks() -> list[str]:
    """Debuggers, files that name a hook, and variables that change how Python or kopf runs."""
    sources = [path for path in _OURS.rglob("*") if path.suffix in {"", ".py"} and path.is_file()]
    return [
        *(name for name in _DEBUGGERS if find_spec(name) is not None),
        *(str(path) for path in sources if any(hook in path.read_bytes() for hook in _HOOKS)),
        *(name for name in os.environ if name.startswith(("KOPF_", "PYTHON")) and name not in _QUIET),
    ]


process = _process()
print(
    json.dumps(
        {
            "user": [os.getuid(), os.getgid()],
            "capabilities": int(process["CapEff"], 16) | int(process["CapBnd"], 16),
            "gains_privileges": process["NoNewPrivs"] != "1",
            "writable": [str(place) for place in (Path("/"), Path("/app"), _OURS, Path("/tmp")) if _can_write(place)],  # noqa: S108
            "packages": {found.name: found.version for found in distributions()},
            "parts_list": json.loads((_OURS / "share" / "sbom.cdx.json").read_text()),
            "programs": sorted(path.name for path in (_OURS / "bin").iterdir()),
            "has_pip": find_spec("pip") is not None,
            "left_over": [str(path) for path in _OURS.rglob("*") if path.suffix in _NEVER_OPENED],
            "debug_hooks": _debug_hooks(),
            "helps": _helps(),
            "compiled_at_start": _compiled_at_start(),
            "bytes": {"base": _size(Path("/")) - _size(_OURS), "ours": _size(_OURS)},
        }
    )
)
