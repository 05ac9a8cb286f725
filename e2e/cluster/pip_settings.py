"""How pip on this machine reaches its index, for pip in an image build.

Invariant: only settings about the way to the index are passed on. Paths to wheels and the like mean nothing there.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys

_PASSED_ON = frozenset(
    {"cert", "default-timeout", "extra-index-url", "index-url", "proxy", "retries", "timeout", "trusted-host"}
)
# As pip prints them: :env:.cert='/path', global.cert='/path'.
_LINE = re.compile(r"^(?P<source>:env:|[\w-]+)\.(?P<name>[\w-]+)=(?P<value>.*)$")


def of_this_machine() -> dict[str, str]:
    """From pip's files and environment, by pip itself. Nothing if this Python has no pip."""
    asked = [sys.executable, "-m", "pip", "config", "list"]
    answer = subprocess.run(asked, check=False, capture_output=True, text=True)
    found = [line for line in map(_LINE.match, answer.stdout.splitlines()) if line and line["name"] in _PASSED_ON]
    found.sort(key=lambda line: line["source"] == ":env:")  # the environment outranks every file
    return {line["name"]: str(ast.literal_eval(line["value"])) for line in found}


def to_file(settings: dict[str, str]) -> str:
    lines = [f"{name} = {value.replace(chr(10), chr(10) + '    ')}" for name, value in settings.items()]
    return "\n".join(["[global]", *lines, ""])
