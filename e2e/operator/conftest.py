"""The operator and workers as local processes, under the rights that the chart gives.

Invariant: an operator never serves what another test is about. A file's tests either share `operator`, the cluster-wide
installation of the chart, or start and end operators of their own. Those serve the test's namespace alone, unless asked
for more: under a ServiceAccount with a RoleBinding there and no right anywhere else, as documented for namespaced
installations.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from cluster import network
from support import crowds
from support.ledger import TASKS_FILE
from support.programs import Program, Programs, StartProgram
from support.releases import rendered
from support.tenants import Tenant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cluster.cluster import Cluster, Manifest
    from cluster.postgres import Database, Databases

_ACCOUNT = "pgscheduler-operator"
# A worker that dies is missed after seconds, and one that holds a job ends soon.
_WORKER = {"PGSCHEDULER_LEASE": "5", "PGSCHEDULER_SHUTDOWN_TIMEOUT": "2"}


@pytest.fixture(scope="module")
def operators_database(databases: Databases) -> Iterator[Database]:
    """The one that the operators of a file serve. Its tests tell themselves apart by tenant."""
    with databases.fresh() as fresh:
        yield fresh


@pytest.fixture(scope="module")
def operators(
    tmp_path_factory: pytest.TempPathFactory,
    operators_database: Database,  # noqa: ARG001 - they go first
) -> Iterator[Programs]:
    started = Programs(tmp_path_factory.mktemp("operators"))
    yield started
    started.end()


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    started = Programs(tmp_path)
    yield started
    started.end()


@pytest.fixture
def new_tenant(
    cluster: Cluster,
    crds: None,  # noqa: ARG001 - its kinds
    operators_database: Database,
    operators: Programs,
    programs: Programs,
) -> Iterator[Callable[[], Tenant]]:
    """One more tenant. At the test's end all its objects are deleted, which an operator that runs must release."""
    with ExitStack() as stack:

        def make() -> Tenant:
            name = stack.enter_context(cluster.namespace())
            one = Tenant(cluster, name, operators_database, operators, programs)
            stack.callback(clear, one)
            return one

        def clear(one: Tenant) -> None:
            if operators.runs("operator") or programs.runs("operator"):
                crowds.clear(one)

        yield make


@pytest.fixture
def tenant(new_tenant: Callable[[], Tenant]) -> Tenant:
    """The test's own."""
    return new_tenant()


@pytest.fixture(scope="module")
def api_url() -> str:
    """Where operators find the API server; a file may put something in between."""
    return network.API_SERVER_URL


@pytest.fixture(scope="module")
def operator(
    cluster: Cluster,
    crds: None,  # noqa: ARG001 - it would wait for them
    api_url: str,
    operator_rights: str,
    operators: Programs,
    operators_database: Database,
) -> Program:
    """Serves every namespace, for all tests of a file."""
    env = {
        "KUBECONFIG": str(cluster.service_account_kubeconfig(operator_rights, _ACCOUNT, server=api_url)),
        "PGSCHEDULER_DSN": operators_database.dsn,
    }
    program = operators.start("operator", "operator", env=env)
    program.says("serving")
    return program


@pytest.fixture
def start_operator(
    tenant: Tenant, api_url: str, operator_rights: str, operators: Programs, programs: Programs
) -> StartProgram:
    """Start an operator that serves the test's namespace, or all; unless `wait=False`, it does so when this returns."""
    assert not operators.runs("operator"), "this file's operator serves every namespace"

    def account(*, everywhere: bool) -> tuple[str, str]:
        """Where it lives, and what it watches."""
        if everywhere:
            return operator_rights, ""
        tenant.apply(*_rights_in(tenant.cluster, tenant.name))
        return tenant.name, tenant.name

    def start(
        *,
        wait: bool = True,
        dsn: str = tenant.database.dsn,
        server: str = api_url,
        everywhere: bool = False,
        **variables: str,
    ) -> Program:
        home, watched = account(everywhere=everywhere)
        env = {
            "KUBECONFIG": str(tenant.cluster.service_account_kubeconfig(home, _ACCOUNT, server=server)),
            "PGSCHEDULER_DSN": dsn,
            "PGSCHEDULER_WATCH_NAMESPACES": watched,
            **variables,
        }
        program = programs.start("operator", "operator", env=env)
        if wait:
            program.says("serving")
        return program

    return start


@pytest.fixture
def start_worker(tenant: Tenant, programs: Programs) -> StartProgram:
    """Start a worker of the test's namespace, or of another; unless `wait=False`, it runs jobs when this returns."""

    def start(*apps: str, of: str = tenant.name, wait: bool = True, **variables: str) -> Program:
        env = {"PGSCHEDULER_DSN": tenant.database.dsn, "PGSCHEDULER_TENANT": of, **_WORKER, **variables}
        program = programs.start("worker", "worker", *(apps or [str(TASKS_FILE)]), env=env)
        if wait:
            program.says(" started with ")
        return program

    return start


@pytest.fixture
def operator_and_worker(operator: Program, start_worker: StartProgram) -> tuple[Program, Program]:
    """The file's operator, and a worker of the test's namespace with the tasks of `ledger_tasks`."""
    return operator, start_worker()


def _rights_in(cluster: Cluster, namespace: str) -> list[Manifest]:
    """What the chart makes for an operator that lives in a namespace and serves it alone, but for its Deployment."""
    operator_alone = {
        "database": {"existingSecret": "none"},
        "worker": {"enabled": False},
        "rbac": {"aggregate": False},
    }
    made = rendered(cluster, namespace, "pgscheduler", watchNamespaces=[namespace], **operator_alone)
    return [one for one in made if one["kind"] != "Deployment"]
