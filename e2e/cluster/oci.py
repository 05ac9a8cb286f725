"""Image archives without a builder, daemon or registry.

Invariant: an archive is one layer and its description in the OCI layout; the same input gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pathlib import Path

_TYPE = "application/vnd.oci.image"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# As process 1 a plain sleep would ignore TERM, and every pod of this image would take its whole grace period to end.
_PAUSE = "trap 'exit 0' TERM INT; busybox sleep infinity & wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What an image says of itself beside its files."""

    name: str
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    user: str = ""

    def description(self, layer_digest: str) -> dict[str, object]:
        return {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {
                "Entrypoint": list(self.entrypoint),
                "Cmd": list(self.command),
                "Env": [f"{name}={value}" for name, value in self.environment.items()],
                "User": self.user,
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
            "history": [{"created": "1970-01-01T00:00:00Z"}],  # one for the layer: buildah counts
        }


def write_pause(target: Path, *, name: str, busybox: Path) -> None:
    """The pods' pause image, a shell and a `sleep`; tests use it for pods of their own too."""
    layer = target.with_suffix(".layer")
    with tarfile.open(layer, "w") as files:
        program = tarfile.TarInfo("bin/busybox")
        program.mode = 0o755
        program.size = busybox.stat().st_size
        with busybox.open("rb") as content:
            files.addfile(program, content)
        shell = tarfile.TarInfo("bin/sh")
        shell.type, shell.linkname = tarfile.SYMTYPE, "busybox"
        files.addfile(shell)
    image = Image(
        name=name,
        entrypoint=("/bin/sh", "-c", _PAUSE),
        environment={"PATH": "/bin"},
        user="65532:65532",
    )
    write_archive(target, image, layer)


def write_archive(target: Path, image: Image, layer: Path) -> None:
    """Consumes the layer, a plain tar."""
    with layer.open("rb") as content:
        layer_digest = hashlib.file_digest(content, "sha256").hexdigest()
    config = json.dumps(image.description(layer_digest)).encode()
    manifest = _manifest(config, layer_digest, layer.stat().st_size)
    index = {
        "schemaVersion": 2,
        "manifests": [
            {
                **_descriptor("manifest.v1+json", _sha256(manifest), len(manifest)),
                "annotations": {
                    "io.containerd.image.name": image.name,
                    "org.opencontainers.image.ref.name": image.name,
                },
            }
        ],
    }
    with tarfile.open(target, "w") as archive, layer.open("rb") as layer_content:
        _put(archive, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        _put(archive, "index.json", json.dumps(index).encode())
        for blob in (config, manifest):
            _put(archive, f"blobs/sha256/{_sha256(blob)}", blob)
        _put_file(archive, f"blobs/sha256/{layer_digest}", layer_content, layer.stat().st_size)
    layer.unlink()


def _manifest(config: bytes, layer_digest: str, layer_size: int) -> bytes:
    content = {
        "schemaVersion": 2,
        "mediaType": f"{_TYPE}.manifest.v1+json",
        "config": _descriptor("config.v1+json", _sha256(config), len(config)),
        "layers": [_descriptor("layer.v1.tar", layer_digest, layer_size)],
    }
    return json.dumps(content).encode()


def _descriptor(kind: str, digest: str, size: int) -> dict[str, object]:
    return {"mediaType": f"{_TYPE}.{kind}", "digest": f"sha256:{digest}", "size": size}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _put(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    _put_file(archive, name, io.BytesIO(content), len(content))


def _put_file(archive: tarfile.TarFile, name: str, content: BinaryIO, size: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = size
    archive.addfile(entry, content)
