"""Whose licences the image carries: those that ask no more than to be named."""

from __future__ import annotations

import re
from importlib import metadata

import pytest

from support.paths import ROOT

_ALLOWED = {
    "0BSD",
    "Apache-2.0",
    "BSD",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MIT",
    "MPL-2.0",  # certifi: its list of authorities, unchanged
    "PSF-2.0",
    "PostgreSQL",
}
# As packages say it that do not say it in SPDX's words.
_SPOKEN = {
    "Apache Software License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache 2": "Apache-2.0",
    "BSD License": "BSD",
    "Dual License": "Apache-2.0 OR BSD-3-Clause",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
PACKAGES = re.findall(r"^([\w.-]+)==", (ROOT / "requirements" / "image.txt").read_text(), re.MULTILINE)


@pytest.mark.parametrize("package", PACKAGES)
def test_licence_of_a_package_in_the_image_is_one_that_we_may_pass_on(package: str) -> None:
    licence = _licence(package)

    assert licence
    assert [name for name in re.split(r" (?:AND|OR) |[()]", licence) if name and name not in _ALLOWED] == []


def _licence(package: str) -> str:
    """In SPDX's words: what the package says in them, else its classifiers, else its free text."""
    told = metadata.metadata(package)
    if expression := _first(told.get_all("License-Expression")):
        return expression
    prefix = "License :: OSI Approved :: "
    classifiers = [line.removeprefix(prefix) for line in told.get_all("Classifier", []) if line.startswith(prefix)]
    spoken = classifiers or [_first(told.get_all("License"))]
    return " AND ".join(_SPOKEN.get(name, name) for name in spoken)


def _first(values: list[str] | None) -> str:
    return values[0] if values else ""
