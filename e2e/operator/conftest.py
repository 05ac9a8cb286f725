"""The operator and workers as local processes, under the rights of deploy/rbac.yaml.

Invariant: every test has operators and workers of its own on a database of its own. `operator` serves the test's
namespace alone, as documented for namespaced installations: a ServiceAccount with a RoleBinding there and no right
anywhere else. `start_operator(everywhere=True)` is the cluster-wide installation of deploy/.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.ledger import TASKS_FILE
from support.programs import Program, Programs, StartProgram
from support.tenants import Tenant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cluster.cluster import Cluster, Manifest
    from cluster.postgres import Database


_ACCOUNT = "pgscheduler-operator"
_WORKER = {
    "PGSCHEDULER_LEASE": "5",
    "PGSCHEDULER_SHUTDOWN_TIMEOUT": "2",
}


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    started = Programs(tmp_path)
    yield started
    started.end()


@pytest.fixture
def tenant(cluster: Cluster, crds: None, namespace: str, database: Database, programs: Programs) -> Tenant:  # noqa: ARG001
    return Tenant(cluster, namespace, database, programs)


@pytest.fixture
def start_operator(
    cluster: Cluster, operator_rights: str, namespace: str, database: Database, programs: Programs
) -> Iterator[StartProgram]:
    """Start an operator; without `wait=False` it serves when this returns.

    At the end of the test all objects are deleted, which the last operator must release.
    """
    started: list[Program] = []

    def start(*, everywhere: bool = False, wait: bool = True, dsn: str = database.dsn) -> Program:
        account = (operator_rights, _ACCOUNT) if everywhere else (namespace, _ACCOUNT)
        if not everywhere:
            cluster.apply(_account_with_rights_in(namespace), namespace=namespace)
        env = {
            "KUBECONFIG": str(cluster.service_account_kubeconfig(*account)),
            "PGSCHEDULER_DSN": dsn,
            "PGSCHEDULER_WATCH_NAMESPACES": "" if everywhere else namespace,
        }
        program = programs.start("operator", "operator", env=env)
        started.append(program)
        if wait:
            program.says("serving")
        return program

    yield start
    if any(program.is_expected for program in started):
        cluster.kubectl("delete", "pgs", "--all", "--namespace", namespace, "--timeout=20s")


@pytest.fixture
def start_worker(programs: Programs, namespace: str, database: Database) -> StartProgram:
    """Start a worker of the test's namespace, or of another; without `wait=False` it claims when this returns."""

    def start(
        *apps: str, tenant: str = namespace, wait: bool = True, dsn: str = database.dsn, **variables: str
    ) -> Program:
        env = {"PGSCHEDULER_DSN": dsn, "PGSCHEDULER_TENANT": tenant, **_WORKER, **variables}
        program = programs.start("worker", "worker", *(apps or [str(TASKS_FILE)]), env=env)
        if wait:
            program.says(" started with ")
        return program

    return start


@pytest.fixture
def operator(start_operator: StartProgram) -> Program:
    return start_operator()


@pytest.fixture
def operator_and_worker(start_operator: StartProgram, start_worker: StartProgram) -> tuple[Program, Program]:
    """Both, started side by side. The worker has the tasks of `ledger_tasks`."""
    operator = start_operator(wait=False)
    operator.says("serving")  # the tables are there
    return operator, start_worker()


def _account_with_rights_in(namespace: str) -> list[Manifest]:
    """As the head of deploy/rbac.yaml says: the ClusterRole, bound in one namespace only."""
    metadata = {"name": _ACCOUNT}
    group = "rbac.authorization.k8s.io"
    role = {"apiGroup": group, "kind": "ClusterRole", "name": _ACCOUNT}
    subject = {"kind": "ServiceAccount", "name": _ACCOUNT, "namespace": namespace}
    binding = {"kind": "RoleBinding", "metadata": metadata, "roleRef": role, "subjects": [subject]}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {"apiVersion": f"{group}/v1", **binding},
    ]
