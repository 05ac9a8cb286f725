"""Certificates of one test: authorities, and what they sign for servers.

Invariant: keys are made anew and lie in the test's folder.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_SETTINGS = "[req]\ndistinguished_name = subject\n[subject]\n"  # the machine's own openssl.cnf stays out


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate and its key, as PEM."""

    file: Path
    key: Path


def authority(folder: Path, name: str) -> Certificate:
    """One that may sign, under a subject of its own."""
    return _made(folder, name, "basicConstraints=critical,CA:TRUE")


def signed(by: Certificate, folder: Path, name: str, *, names: str) -> Certificate:
    """For a server; ``names`` as OpenSSL writes them: ``DNS:db.example,IP:0.0.0.0``."""
    return _made(folder, name, f"subjectAltName={names}", by)


def _made(folder: Path, name: str, extension: str, by: Certificate | None = None) -> Certificate:
    made = Certificate(file=folder / f"{name}.crt", key=folder / f"{name}.key")
    settings = folder / "openssl.cnf"
    settings.write_text(_SETTINGS)
    signing = ["-CA", str(by.file), "-CAkey", str(by.key)] if by else []
    command = ["openssl", "req", "-x509", "-config", str(settings), "-subj", f"/CN={name}", "-addext", extension]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", *signing]
    subprocess.run([*command, "-keyout", made.key, "-out", made.file], check=True, capture_output=True)
    return made
