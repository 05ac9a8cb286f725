"""Certificates of one throw-away cluster.

Invariant: every key is made for one cluster and lives in its folder. Roles are told by the subject alone: Kubernetes
reads the user from CN and the groups from O.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cluster.processes import output_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# Given in full, so that the extensions of the machine's own openssl.cnf stay out.
_SETTINGS = "[req]\ndistinguished_name = subject\n[subject]\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    certificate: Path
    key: Path


class Authority:
    """The cluster's certificate authority."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._settings = folder / "openssl.cnf"
        folder.mkdir(mode=0o700)
        self._settings.write_text(_SETTINGS)
        may_sign = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign"]
        self.own = self._make("ca", "/CN=e2e-ca", may_sign)

    def issue(
        self, name: str, subject: str, *, usage: Literal["clientAuth", "serverAuth"], names: Sequence[str] = ()
    ) -> Credentials:
        """`names` as OpenSSL writes them: "IP:10.96.0.1", "DNS:localhost"."""
        extensions = ["basicConstraints=CA:FALSE", "keyUsage=critical,digitalSignature", f"extendedKeyUsage={usage}"]
        if names:
            extensions.append(f"subjectAltName={','.join(names)}")
        return self._make(name, subject, extensions, signer=self.own)

    def service_account_key(self) -> tuple[Path, Path]:
        """Private and public key that ServiceAccount tokens are signed and checked with."""
        private, public = self.folder / "service-accounts.key", self.folder / "service-accounts.pub"
        _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(private))
        _openssl("ec", "-in", str(private), "-pubout", "-out", str(public))
        return private, public

    def _make(
        self, name: str, subject: str, extensions: Sequence[str], *, signer: Credentials | None = None
    ) -> Credentials:
        made = Credentials(certificate=self.folder / f"{name}.crt", key=self.folder / f"{name}.key")
        signing = ["-CA", str(signer.certificate), "-CAkey", str(signer.key)] if signer else []
        _openssl(
            *("req", "-x509", "-config", str(self._settings), "-subj", subject, "-days", "30", "-sha256"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"),
            *("-keyout", str(made.key), "-out", str(made.certificate)),
            *signing,
            *(word for extension in extensions for word in ("-addext", extension)),
        )
        return made


def write_kubeconfig(
    file: Path, *, server: str, authority: Path, user: Mapping[str, str], namespace: str = "default"
) -> Path:
    """A kubeconfig of one context. `user` as in the file: {"token": …} or a client certificate's paths."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "e2e", "cluster": {"server": server, "certificate-authority": str(authority)}}],
        "users": [{"name": "e2e", "user": dict(user)}],
        "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "e2e", "namespace": namespace}}],
        "current-context": "e2e",
    }
    file.write_text(json.dumps(content))
    file.chmod(0o600)
    return file


def certificate_user(credentials: Credentials) -> dict[str, str]:
    return {"client-certificate": str(credentials.certificate), "client-key": str(credentials.key)}


def _openssl(*arguments: str) -> None:
    output_of(["openssl", *arguments])
