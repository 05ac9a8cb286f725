"""The user's own kubectl: the one place where the plugin meets the outside.

Invariant: nothing is asked of the cluster but by that program and with the flags of the command line; an answer is an
object or a typed error, and an error quotes no value of a spec.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any, Final

from pg_scheduler_operator.errors import (
    KubectlNotFound,
    KubernetesError,
    KubernetesNotConfigured,
    KubernetesUnreachable,
    ObjectChanged,
    ObjectGone,
    RightMissing,
    WaitTooShort,
)
from pg_scheduler_operator.plugin.references import resource_of
from pg_scheduler_operator.resources import GROUP

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pg_scheduler_operator.plugin.references import Reference

    Body = Mapping[str, Any]

FIELD_MANAGER: Final = "kubectl-pgscheduler"
_RIGHTS_PAGE: Final = "docs/reference/kubectl-plugin.md#rights"
_EXISTS: Final = re.compile(r"Error from server \(AlreadyExists\)")
_INVALID_VALUE: Final = re.compile(r"Invalid value: .*: ", re.DOTALL)


def _never(complaints: str) -> bool:
    del complaints
    return False


class Kubectl:
    """kubectl with some flags: context, kubeconfig, namespace."""

    def __init__(self, flags: Sequence[str] = ()) -> None:
        """Look for the program.

        Raises:
            KubectlNotFound: there is none on the PATH.
        """
        program = shutil.which("kubectl")
        if program is None:
            raise KubectlNotFound("there is no kubectl on the PATH", fix="install kubectl, or add its folder to $PATH")
        self._program = program
        self._flags = tuple(flags)

    def get(self, reference: Reference) -> Body:
        """One object as it stands."""
        found: Body = json.loads(self._run("get", reference.in_full, "--output=json"))
        return found

    def objects(self, *resources: str, selector: str = "", everywhere: bool = False) -> list[Body]:
        """The objects of some resources, of the namespace or of all."""
        arguments = ["get", ",".join(resources), "--output=json"]
        if selector:
            arguments.append(f"--selector={selector}")
        if everywhere:
            arguments.append("--all-namespaces")
        found: list[Body] = json.loads(self._run(*arguments))["items"]
        return found

    def all_of(self, *shorts: str, everywhere: bool = False) -> list[Body]:
        """The objects of some of our kinds."""
        return self.objects(*map(resource_of, shorts), everywhere=everywhere)

    def create(self, *manifests: Body, dry_run: bool, may_exist: bool = False) -> list[Body]:
        """Make objects, and answer them; with ``may_exist`` without those whose names are taken already."""
        given = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
        flags = ["--filename=-", "--output=json", f"--field-manager={FIELD_MANAGER}", *_dry(dry_run)]
        return objects_in(self._run("create", *flags, given=given, passes=_only_exists if may_exist else _never))

    def patch(self, reference: Reference, body: Body, *, dry_run: bool) -> None:
        """Merge ``body`` into an object."""
        flags = ["--type=merge", f"--field-manager={FIELD_MANAGER}", *_dry(dry_run)]
        self._run("patch", reference.in_full, f"--patch={json.dumps(body)}", *flags)

    def wait_for(self, reference: Reference, condition: str, *, seconds: float) -> None:
        """Return when the condition is true.

        Raises:
            WaitTooShort: it is not, after so long.
        """
        self._run("wait", reference.in_full, f"--for=condition={condition}", f"--timeout={seconds}s")

    def _run(self, *arguments: str, given: str = "", passes: Callable[[str], bool] = _never) -> str:
        """What it prints; ``passes`` judges its complaints."""
        ran = subprocess.run(  # noqa: S603 (the user's own program, and no shell)
            [self._program, *arguments, *self._flags],
            input=given,
            capture_output=True,
            encoding="utf-8",
            check=False,
            env=os.environ | {"LC_ALL": "C"},  # its complaints are read here
        )
        if ran.returncode and not passes(ran.stderr):
            raise error_of(ran.stderr)
        return ran.stdout


def _dry(dry_run: bool) -> list[str]:
    return ["--dry-run=server"] if dry_run else []


def _only_exists(complaints: str) -> bool:
    lines = complaints.strip().splitlines()
    return bool(lines) and all(map(_EXISTS.match, lines))


def objects_in(text: str) -> list[Body]:
    """The objects of one JSON text after the other, with lists opened."""
    decoder, at = json.JSONDecoder(), 0
    found: list[Body] = []
    text = text.strip()
    while at < len(text):
        body, end = decoder.raw_decode(text, at)
        found += body["items"] if body["kind"] == "List" else [body]
        at = end + len(text[end:]) - len(text[end:].lstrip())
    return found


def error_of(complaints: str) -> KubernetesError | KubernetesNotConfigured:
    """What kubectl's complaints mean."""
    why = _last_line(complaints)
    for pattern, make in _MEANINGS:
        if pattern.search(complaints):
            return make(why)
    return KubernetesError("kubectl could not do it", why=why)


def _last_line(complaints: str) -> str:
    lines = [line for line in complaints.strip().splitlines() if line]
    return _INVALID_VALUE.sub("", lines[-1])[:400] if lines else "it said nothing"


def _unreachable(why: str) -> KubernetesError:
    return KubernetesUnreachable("the API server does not answer", why=why, fix="try: kubectl version")


def _gone(why: str) -> KubernetesError:
    return ObjectGone("there is no such object", why=why, fix="name another, or its namespace with -n", status=404)


def _changed(why: str) -> KubernetesError:
    return ObjectChanged("somebody else wrote the object meanwhile", why=why, fix="run it again", status=409)


def _forbidden(why: str) -> KubernetesError:
    return RightMissing("you may not do this", why=why, fix=f"ask for the rights in {_RIGHTS_PAGE}", status=403)


def _too_short(why: str) -> KubernetesError:
    return WaitTooShort(
        "it has not finished in time", why=why, fix="see kubectl pgscheduler explain; wait with --timeout"
    )


def _unknown_kind(why: str) -> KubernetesError:
    fix = "pgscheduler crds | kubectl apply --server-side -f -"
    return KubernetesError(f"the cluster does not know the kinds of {GROUP}", why=why, fix=fix)


def _not_configured(why: str) -> KubernetesNotConfigured:
    return KubernetesNotConfigured(
        "kubectl does not know which cluster is meant", why=why, fix="give --context, or --kubeconfig"
    )


_MEANINGS: Final[Sequence[tuple[re.Pattern[str], Callable[[str], KubernetesError | KubernetesNotConfigured]]]] = (
    (re.compile(r"\(Forbidden\)|\(Unauthorized\)"), _forbidden),
    (re.compile(r"\(NotFound\)"), _gone),
    (re.compile(r"\((AlreadyExists|Conflict)\)"), _changed),
    (re.compile(r"doesn't have a resource type|no matches for kind"), _unknown_kind),
    (re.compile(r"timed out waiting for the condition"), _too_short),
    (
        re.compile(r"context .*(does not exist|not found)|no configuration has been provided|: no such file"),
        _not_configured,
    ),
    (re.compile(r"[Cc]onnect(ion)? to the server|\((ServiceUnavailable|Timeout|ServerTimeout)\)"), _unreachable),
    (re.compile(r"connection refused|i/o timeout|no such host|unexpected EOF"), _unreachable),
)
