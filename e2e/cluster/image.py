"""The images that nodes load: pause, the project's own and what is made of it, built from Dockerfiles without Docker.

Invariant: a Dockerfile is built as it stands, only on a base made here from Debian's packages in place of the one it
names. An archive is named by a hash over everything that goes in, so what is tested is always the tree as it is. Builds
run in a mount namespace of their own: one that is killed leaves no mount behind.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from cluster import cache, oci, pip_settings
from cluster.node_files import PAUSE_IMAGE
from cluster.processes import run_logged
from pg_scheduler import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cluster.kept_releases import KeptRelease
    from cluster.progress import Progress

PROJECT_IMAGE = f"docker.io/library/pgscheduler:{__version__}"  # what chart and README mean by pgscheduler:VERSION
USERS_IMAGE = "registry.example.com/billing:v1"  # as README and examples call it
_USERS_FOLDER = Path("examples", "image")
_OF_RELEASE = Path(__file__).with_name("previous") / "Dockerfile"
# What the Dockerfile may copy. A path that does not exist is left out, and is a change once it does.
_INPUTS = (
    "Dockerfile",
    ".dockerignore",
    "pyproject.toml",
    "requirements",
    "worker",
    "operator",
    "crds",
    "examples",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
)
_SUITE = "trixie"  # the Debian whose python3 is the 3.13 of the Dockerfile's base
_PACKAGES = "python3,python3-pip,python3-venv,ca-certificates"
_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
_LEFT_OUT = (
    "var/cache/apt/archives/*.deb",
    "var/lib/apt/lists/*",
    "usr/share/doc/*",
    "usr/share/man/*",
    "usr/share/locale/*",
    "usr/lib/python3.*/EXTERNALLY-MANAGED",  # python:3.13-slim lets pip install
)
_CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_ARCHIVES_KEPT = 3
_BUILDAH_KEEPS = 200  # images, most of them one step of a Dockerfile: about 4 GB, then it starts over


def pause(progress: Progress) -> Path:
    busybox = Path(shutil.which("busybox") or "/bin/busybox")
    source = Path(oci.__file__).read_bytes()
    target = cache.folder() / f"pause-{cache.digest(source, busybox.read_bytes())}.tar"
    if not target.exists():
        with progress.phase("pause image"), cache.making(target) as work:
            oci.write_pause(work / target.name, name=PAUSE_IMAGE, busybox=busybox)
    return target


def project(repository: Path, progress: Progress) -> Path:
    """An archive of the image that the repository's Dockerfile describes."""
    base = _base(progress)
    folder = cache.folder() / "project"
    target = folder / f"{cache.digest(base.name, *_contents(repository, _INPUTS))}.tar"
    if not target.exists():
        with progress.phase("build the project's image", slow=True), cache.making(target) as work:
            _build(repository, base, work, work / target.name)
        cache.keep_newest(folder.glob("*.tar"), keep=_ARCHIVES_KEPT)
    return target


def of_user(repository: Path, project: Path, progress: Progress) -> Path:
    """An archive of the image that a user's Dockerfile, the example, makes of the project's."""
    source = repository / _USERS_FOLDER
    folder = cache.folder() / "users"
    target = folder / f"{cache.digest(project.name, *_contents(source, ['.']))}.tar"
    return _made_of(project, target, USERS_IMAGE, progress, "a user's image", [str(source)])


def of_release(release: KeptRelease, project: Path, progress: Progress) -> Path:
    """An archive of the image of an earlier release: the project's, with that one's wheel in place of our packages."""
    folder = cache.folder() / "releases"
    target = folder / f"{cache.digest(project.name, release.wheel.read_bytes(), _OF_RELEASE.read_bytes())}.tar"
    arguments = ["--build-arg", f"PROJECT={PROJECT_IMAGE}", "--build-arg", f"WHEEL={release.wheel.name}"]
    source = ["--file", str(_OF_RELEASE), str(release.wheel.parent)]
    return _made_of(project, target, release.image, progress, f"the image of {release.version}", [*arguments, *source])


def _made_of(project: Path, target: Path, name: str, progress: Progress, what: str, source: list[str]) -> Path:
    if not target.exists():
        with progress.phase(f"build {what}", slow=True), cache.making(target) as work:
            steps = (
                ["pull", "--quiet", f"docker-archive:{project}"],
                ["bud", "--isolation", "chroot", "--pull-never", "--tag", name, *source],
                ["push", "--quiet", name, f"docker-archive:{work / target.name}:{name}"],
            )
            _buildah(steps, work)
        cache.keep_newest(target.parent.glob("*.tar"), keep=_ARCHIVES_KEPT)
    return target


def _contents(repository: Path, inputs: Sequence[str]) -> Iterator[str | bytes]:
    for name in inputs:
        path = repository / name
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                yield str(file.relative_to(repository))
                yield file.read_bytes()


def _base(progress: Progress) -> Path:
    recipe = (_SUITE, _PACKAGES, _PATH, *_LEFT_OUT, Path(oci.__file__).read_bytes())
    target = cache.folder() / f"base-{_SUITE}-{cache.digest(*recipe)}.tar"
    if not target.exists():
        with progress.phase("base image from Debian's packages", slow=True), cache.making(target) as work:
            _make_base(work, work / target.name)
        cache.keep_newest(cache.folder().glob("base-*.tar"), keep=1)
    return target


def _make_base(work: Path, target: Path) -> None:
    root, layer, log = work / "root", work / "layer", cache.folder() / "base.log"
    bootstrap = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, str(root)]
    run_logged(bootstrap, log, isolated=True)
    for name, program in {"python": "python3", "python3": "python3", "pip": "pip3"}.items():
        (root / "usr/local/bin" / name).symlink_to(f"/usr/bin/{program}")
    left_out = [f"--exclude=./{pattern}" for pattern in _LEFT_OUT]
    run_logged(["tar", "--numeric-owner", *left_out, "-C", str(root), "-cf", str(layer), "."], log)
    image = oci.Image(name=_base_name(target), command=("python3",), environment={"PATH": _PATH, "LANG": "C.UTF-8"})
    oci.write_archive(target, image, layer)


def _base_name(archive: Path) -> str:
    return f"localhost/pgscheduler-base:{archive.stem}"


def _build(repository: Path, base: Path, work: Path, target: Path) -> None:
    steps = (
        ["pull", "--quiet", f"oci-archive:{base}"],
        [
            *("bud", "--isolation", "chroot", "--pull-never", "--layers"),
            *("--build-arg", f"BASE_IMAGE={_base_name(base)}", "--build-arg", f"VERSION={__version__}"),
            *_volumes(work),
            *("--tag", PROJECT_IMAGE, "--file", str(repository / "Dockerfile"), str(repository)),
        ],
        ["push", "--quiet", PROJECT_IMAGE, f"docker-archive:{target}:{PROJECT_IMAGE}"],
    )
    _buildah(steps, work)


def _buildah(steps: Iterable[list[str]], work: Path) -> None:
    env = _buildah_environment(work)
    for step in steps:
        run_logged(["buildah", *step], cache.folder() / "image.log", env=env, isolated=True)


def _buildah_environment(work: Path) -> dict[str, str]:
    """Layers in the cache, state in a folder that goes: the machine's own containers are neither seen nor touched."""
    storage = cache.folder() / "buildah"
    if len([*storage.glob("overlay-images/*")]) > _BUILDAH_KEEPS:
        shutil.rmtree(storage)
    storage.mkdir(exist_ok=True)
    settings = {
        "storage.conf": f'[storage]\ndriver = "overlay"\nrunroot = "{work}/run"\ngraphroot = "{storage}"\n',
        "registries.conf": 'unqualified-search-registries = []\nshort-name-mode = "permissive"\n',
    }
    for name, content in settings.items():
        (work / name).write_text(content)
    return os.environ | {
        "CONTAINERS_STORAGE_CONF": str(work / "storage.conf"),
        "CONTAINERS_REGISTRIES_CONF": str(work / "registries.conf"),
        "TMPDIR": str(cache.folder()),  # where cache mounts of RUN steps are kept
    }


def _volumes(work: Path) -> Iterator[str]:
    """What RUN steps need of this machine to fetch packages: a base from elsewhere knows no private authority."""
    settings = pip_settings.of_this_machine()
    (work / "pip.conf").write_text(pip_settings.to_file(settings))
    authorities = {_CA_BUNDLE, Path(settings.get("cert", _CA_BUNDLE))}
    mounted = {work / "pip.conf": Path("/etc/pip.conf"), **{path: path for path in authorities if path.exists()}}
    for source, place in mounted.items():
        yield from ("--volume", f"{source}:{place}:ro")
