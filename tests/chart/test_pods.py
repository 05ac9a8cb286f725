"""Pods: under restricted Pod Security, with settings that are read, probed where they listen, ended in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from chart.conftest import pod_specs
from pg_scheduler import VacuumConfig, VacuumPolicy
from pg_scheduler.cli.migrate import migrate
from pg_scheduler.cli.retention import retention_given
from pg_scheduler.cli.worker import worker
from pg_scheduler_operator.cli import operator
from pg_scheduler_operator.errors import InvalidSpec
from pg_scheduler_operator.resources import WorkerPoolSpec, read
from pg_scheduler_operator.settings import Settings

if TYPE_CHECKING:
    from chart.conftest import Render

READ_BY_THE_LIBRARY = {
    "PGSSLROOTCERT",
    *("PGSCHEDULER_POOL", "PGSCHEDULER_POD_NAME", "PGSCHEDULER_POD_UID"),
    *("PGSCHEDULER_POD_NAMESPACE", "PGSCHEDULER_NODE_NAME"),
}
OPERATOR, WORKER = "shop-pgscheduler-operator", "shop-pgscheduler-default"


def deployment(render: Render, name: str, *sets: str) -> dict[str, Any]:
    (found,) = [body for body in render(*sets, kind="Deployment") if body["metadata"]["name"] == name]
    return found


def container_of(body: dict[str, Any]) -> dict[str, Any]:
    (container,) = body["spec"]["template"]["spec"]["containers"]
    return dict(container)


def variables(container: dict[str, Any]) -> dict[str, Any]:
    return {variable["name"]: variable.get("value") for variable in container["env"]}


def test_every_pod_is_restricted(render: Render) -> None:
    specs = pod_specs(render("database.dev.enabled=true", "crds.upgrade=true"))

    assert len(specs) == 6
    for spec in specs:
        require_restricted(spec)


def require_restricted(spec: dict[str, Any]) -> None:
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert container["resources"]["limits"].keys() == {"memory"}


BY_A_JOB = ("migrations.run=job", "migrations.existingSecret=owner", "migrations.secretKey=uri")


def migrating(render: Render, *sets: str) -> dict[str, Any]:
    (job,) = [body for body in render(*BY_A_JOB, *sets, kind="Job") if "migrations" in body["metadata"]["name"]]
    return job


def test_migrations_have_the_login_of_the_tables_owner_and_nothing_of_kubernetes(render: Render) -> None:
    job = migrating(render, "database.caSecret.name=shop-ca", "database.existingSecret=db")
    spec, container = job["spec"]["template"]["spec"], container_of(job)
    secrets = {one["name"]: one["secret"] for one in spec["volumes"] if "secret" in one}
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}

    assert container["args"] == ["migrate"]
    assert secrets["database"]["secretName"] == "owner"
    assert secrets["database"]["items"] == [{"key": "uri", "path": "dsn"}]
    assert secrets["database-ca"]["secretName"] == "shop-ca"
    assert variables(container)["PGSCHEDULER_DSN_FILE"] == f"{mounts['database']}/dsn"
    assert variables(container).keys() <= {"PGSSLROOTCERT"} | {option.envvar for option in migrate.params}
    assert spec["automountServiceAccountToken"] is False
    account = spec["serviceAccountName"]
    assert not [body for body in render(*BY_A_JOB) if account in {one["name"] for one in body.get("subjects", ())}]
    require_restricted(spec)


def test_migrations_come_before_anything_of_a_release(render: Render) -> None:
    job = migrating(render)
    (account,) = [body for body in render(*BY_A_JOB, kind="ServiceAccount") if "migrations" in body["metadata"]["name"]]

    for body in (job, account):
        assert body["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    weights = [int(body["metadata"]["annotations"]["helm.sh/hook-weight"]) for body in (account, job)]
    assert weights == sorted(set(weights))
    assert container_of(migrating(render, "migrations.roles=true"))["args"] == ["migrate", "--roles"]


@pytest.mark.parametrize(("sets", "jobs"), [((), 0), (("migrations.run=manual",), 0), (BY_A_JOB, 1)])
def test_who_serves_migrates_only_where_nobody_else_does(render: Render, sets: tuple[str, ...], jobs: int) -> None:
    for name in (OPERATOR, WORKER):
        told = variables(container_of(deployment(render, name, *sets)))["PGSCHEDULER_MIGRATE"]
        assert told == str(not sets).lower()

    assert len([body for body in render(*sets, kind="Job") if "migrations" in body["metadata"]["name"]]) == jobs


def test_workers_keep_what_the_values_say(render: Render) -> None:
    def kept(*sets: str) -> VacuumConfig:
        told = variables(container_of(deployment(render, WORKER, *sets)))
        arguments = [part for name, value in told.items() for part in _option_of(name, value)]
        with worker.make_context("worker", ["--dsn", "postgresql://a@b/c", *arguments]) as context:
            return retention_given(context.params)

    assert kept() == VacuumConfig()
    sets = ("retention.completed=last 10", "retention.failed=forever", "retention.expired=0d", "retention.keys=30d")
    assert kept(*sets) == VacuumConfig(
        completed=VacuumPolicy.keep_last(10),
        failed=VacuumPolicy.never(),
        expired=VacuumPolicy.after_days(0),
        keys_days=30,
    )


def _option_of(variable: str, value: str) -> list[str]:
    names = [option.opts[0] for option in worker.params if option.envvar == variable and "RETENTION" in variable]
    return [part for name in names for part in (name, value)]


def test_workers_and_the_database_have_no_token(render: Render) -> None:
    bodies = render("database.dev.enabled=true")
    silent = [body for body in bodies if body["kind"] == "StatefulSet" or body["metadata"]["name"] == WORKER]

    assert [
        body["spec"]["template"]["spec"]["automountServiceAccountToken"]
        for body in silent
        if "template" in body["spec"]
    ]
    assert all(
        body["spec"]["template"]["spec"]["automountServiceAccountToken"] is False
        for body in silent
        if "template" in body["spec"]
    )


def test_every_variable_is_one_that_is_read(render: Render) -> None:
    of_worker = {option.envvar for option in worker.params if option.envvar} | READ_BY_THE_LIBRARY
    of_operator = {option.envvar for option in operator.params if option.envvar} | {
        f"PGSCHEDULER_{name.upper()}" for name in Settings.model_fields
    }

    sets = ("tenantLimits.a.maxPending=1", "watchNamespaces={a}")
    assert variables(container_of(deployment(render, WORKER))).keys() <= of_worker
    assert variables(container_of(deployment(render, OPERATOR, *sets))).keys() <= of_operator


def test_the_operators_settings_can_be_read(render: Render, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = ("tenantLimits.a.maxPending=1", "watchNamespaces={a,b}", "clusterName=eu-1", "status.errorText=true")
    for name, value in variables(container_of(deployment(render, OPERATOR, *sets))).items():
        monkeypatch.setenv(name, value)

    settings = Settings()

    assert settings.watch_namespaces == ("a", "b")
    assert settings.cluster_name == "eu-1"
    assert settings.tenant_limits["a"].max_pending == 1
    assert settings.lease_name == OPERATOR
    assert settings.migrate
    assert settings.status_error_text


@pytest.mark.parametrize("name", [OPERATOR, WORKER])
def test_the_database_is_a_file_of_its_secret(render: Render, name: str) -> None:
    body = deployment(render, name, "database.existingSecret=shop-app", "database.secretKey=uri")
    container = container_of(body)
    (volume,) = [one for one in body["spec"]["template"]["spec"]["volumes"] if one["name"] == "database"]
    (mount,) = [one for one in container["volumeMounts"] if one["name"] == "database"]

    assert volume["secret"]["secretName"] == "shop-app"
    assert volume["secret"]["items"] == [{"key": "uri", "path": "dsn"}]
    assert variables(container)["PGSCHEDULER_DSN_FILE"] == f"{mount['mountPath']}/dsn"


@pytest.mark.parametrize("name", [OPERATOR, WORKER])
def test_the_servers_authority_is_a_file_of_its_secret(render: Render, name: str) -> None:
    body = deployment(render, name, "database.existingSecret=shop-app", "database.caSecret.name=shop-ca")
    container = container_of(body)
    (volume,) = [one for one in body["spec"]["template"]["spec"]["volumes"] if one["name"] == "database-ca"]
    (mount,) = [one for one in container["volumeMounts"] if one["name"] == "database-ca"]

    assert volume["secret"]["secretName"] == "shop-ca"
    assert volume["secret"]["items"] == [{"key": "ca.crt", "path": "ca.crt"}]
    assert variables(container)["PGSSLROOTCERT"] == f"{mount['mountPath']}/ca.crt"


@pytest.mark.parametrize("name", [OPERATOR, WORKER])
def test_a_server_has_to_prove_its_name_unless_somebody_says_otherwise(render: Render, name: str) -> None:
    def allowed(*sets: str) -> bool:
        return variables(container_of(deployment(render, name, *sets))).get("PGSCHEDULER_ALLOW_INSECURE") == "true"

    assert not allowed()
    assert allowed("database.existingSecret=db", "database.allowInsecure=true")
    assert allowed("database.dev.enabled=true")


@pytest.mark.parametrize("name", [OPERATOR, WORKER])
def test_probes_go_where_the_process_listens(render: Render, name: str) -> None:
    container = container_of(deployment(render, name))
    (port,) = container["ports"]

    assert variables(container)["PGSCHEDULER_HTTP"] == f"0.0.0.0:{port['containerPort']}"
    for probe, path in (("startupProbe", "livez"), ("livenessProbe", "livez"), ("readinessProbe", "readyz")):
        assert container[probe]["httpGet"] == {"path": f"/{path}", "port": port["name"]}


@pytest.mark.parametrize("name", [OPERATOR, WORKER])
def test_a_process_is_asked_each_second_and_given_time(render: Render, name: str) -> None:
    container = container_of(deployment(render, name))
    periods = {probe: container[probe]["periodSeconds"] for probe in ("startupProbe", "readinessProbe")}
    patience = {probe: period * container[probe]["failureThreshold"] for probe, period in periods.items()}

    assert periods == {"startupProbe": 1, "readinessProbe": 1}
    assert patience == {"startupProbe": 120, "readinessProbe": 15}


def test_the_grace_is_longer_than_the_shutdown(render: Render) -> None:
    for sets, grace in (((), 330), (("worker.shutdownSeconds=60",), 90)):
        body = deployment(render, WORKER, *sets)
        spec = body["spec"]["template"]["spec"]

        assert spec["terminationGracePeriodSeconds"] == grace
        assert grace == int(variables(container_of(body))["PGSCHEDULER_SHUTDOWN_TIMEOUT"]) + 30


def test_a_pool_is_that_of_its_workers_and_alone_says_how_many(render: Render) -> None:
    body = deployment(render, WORKER)
    (pool,) = render(kind="WorkerPool")
    spec = read(
        WorkerPoolSpec, {**pool, "metadata": {**pool["metadata"], "uid": "u", "generation": 1}}, cluster="c"
    ).spec

    assert not isinstance(spec, InvalidSpec)
    assert spec.target_ref.name == body["metadata"]["name"]
    assert variables(container_of(body))["PGSCHEDULER_POOL"] == pool["metadata"]["name"]
    assert "replicas" not in body["spec"]
    assert spec.drain.timeout_seconds < body["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]


def test_each_pool_has_its_own_queues_and_pods(render: Render) -> None:
    sets = ("worker.pools.mail.queues={mail,sms}", "worker.pools.mail.spec.autoscaling.maxReplicas=3")
    bodies = [body for body in render(*sets, kind="Deployment") if body["metadata"]["name"] != OPERATOR]

    queues = {body["metadata"]["name"]: variables(container_of(body))["PGSCHEDULER_QUEUES"] for body in bodies}
    selectors = {tuple(sorted(body["spec"]["selector"]["matchLabels"].items())) for body in bodies}
    assert queues == {WORKER: "default", "shop-pgscheduler-mail": "mail,sms"}
    assert len(selectors) == len(bodies)


def test_networks_are_closed_but_for_what_is_needed(render: Render) -> None:
    sets = ("networkPolicy.enabled=true", "networkPolicy.metricsFrom[0].podSelector.matchLabels.a=b")
    of_operator, of_worker = render(*sets, kind="NetworkPolicy")

    def ports(policy: dict[str, Any]) -> set[int]:
        return {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}

    assert ports(of_operator) == {53, 5432, 443, 6443}
    assert ports(of_worker) == {53, 5432}
    for policy in (of_operator, of_worker):
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        assert policy["spec"]["ingress"] == [
            {"from": [{"podSelector": {"matchLabels": {"a": "b"}}}], "ports": [{"protocol": "TCP", "port": 8080}]}
        ]
    assert [policy["spec"]["ingress"] for policy in render("networkPolicy.enabled=true", kind="NetworkPolicy")] == [
        [],
        [],
    ]


def test_a_budget_for_one_operator_would_hold_its_node(render: Render) -> None:
    names = [body["metadata"]["name"] for body in render(kind="PodDisruptionBudget")]
    more = [body["metadata"]["name"] for body in render("replicaCount=2", kind="PodDisruptionBudget")]

    assert names == [WORKER]
    assert sorted(more) == [WORKER, OPERATOR]
