"""The schedules that this process declares, by dedup key: written at the start, read and changed while it runs.

Invariants: what a synchronous call answers is the row as the ticker last read it, with the wishes since then on top; a
wish stays until it is written, whatever becomes of the database in between. A start writes what code says and never
lifts a suspension.
"""

import asyncio
import copy
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pg_scheduler._domain.schedules import CODE, ScheduleDefinition, ScheduleKey
from pg_scheduler._engine.job_ids import new_job_id
from pg_scheduler._store.driver import Connection
from pg_scheduler._store.schedules import ScheduleStore, ScheduleView
from pg_scheduler.errors import TenantLimitExceeded
from pg_scheduler.periodic import PeriodicJobConfig

logger = logging.getLogger("pg_scheduler.engine")


class PeriodicJobs:
    """One scheduler's view of the declared schedules; it outlives each run of the engine."""

    def __init__(
        self,
        schedules: ScheduleStore,
        configs: Callable[[], Mapping[str, PeriodicJobConfig]],
        *,
        tenant: str,
        on_triggered: Callable[[], None],
    ) -> None:
        self._schedules = schedules
        self._configs = configs
        self._tenant = tenant
        self._on_triggered = on_triggered
        self._views: dict[str, ScheduleView] = {}
        self._wishes: dict[str, bool] = {}
        self._declared: list[PeriodicJobConfig] = []
        self._writing = asyncio.Lock()
        self._ticker: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    def configs(self) -> dict[str, PeriodicJobConfig]:
        """Copies of what is declared, each with ``enabled`` as it stands."""
        return {key: self._as_it_stands(key, config) for key, config in self._configs().items()}

    def status(self, key: str) -> dict[str, Any] | None:
        """How the schedule stands; None for a key that is not declared here."""
        config = self._configs().get(key)
        if config is None:
            return None
        view = self._views.get(config.source_uid)
        return {
            "job_name": config.job_name,
            "enabled": self._runs(key, config),
            "priority": config.priority,
            "max_retries": config.max_retries,
            "dedup_key": key,
            "use_advisory_lock": config.use_advisory_lock,
            "function_name": config.func.__name__,
            "function_module": config.func.__module__,
            **_shown_rule(config),
            "next_run_at": view.next_run_at if view and self._runs(key, config) else None,
            "last_run_at": view.last_run_at if view else None,
            "last_status": view.last_status if view else None,
        }

    def wish(self, key: str, *, suspended: bool) -> bool:
        """Suspend or resume as soon as the ticker gets to it; False for a key that is not declared here."""
        if key not in self._configs():
            return False
        self._wishes[key] = suspended
        self._wake_ticker()
        return True

    async def suspend(self, key: str, *, suspended: bool, reason: str = "", by: str | None = None) -> bool:
        """Suspend or resume now; False for a key that is not declared here."""
        config = self._configs().get(key)
        if config is None:
            return False
        async with self._writing:  # an older wish that is being written now comes first
            self._wishes.pop(key, None)
            await self._write(self._schedules, config, suspended=suspended, reason=reason, by=by)
        await self._read(self._schedules, [config])
        return True

    async def read_status(self, key: str) -> dict[str, Any] | None:
        """As ``status``, from the row as it is now, with what is known of a suspension and a retirement."""
        config = self._configs().get(key)
        if config is None:
            return None
        await self._read(self._schedules, [config])
        view = self._views.get(config.source_uid)
        return {
            **(self.status(key) or {}),
            "suspended": self._wishes.get(key, view is not None and view.suspended),
            "suspended_at": view.suspended_at if view else None,
            "suspended_by": view.suspended_by if view else None,
            "suspend_reason": view.suspend_reason if view else "",
            "halted_reason": view.halted_reason if view else None,
            "retired_reason": view.retired_reason if view else None,
        }

    async def trigger(self, key: str) -> str | None:
        """Make one extra run, due now; its job id, None for a key that is not declared here."""
        config = self._configs().get(key)
        if config is None:
            return None
        definition, job_id = self._definition(config), new_job_id()
        while not await self._schedules.run_extra(definition.key, job_id):
            await self._schedules.upsert(definition)  # nobody has started it yet, or it was retired
        self._on_triggered()
        return job_id

    def source_key(self, key: str) -> ScheduleKey | None:
        """Whose row it is; None for a key that is not declared here."""
        config = self._configs().get(key)
        return None if config is None else self._definition(config).key

    def functions(self) -> list[Callable[..., Any]]:
        """What the ticks run."""
        return [config.func for config in self._configs().values()]

    def uids(self) -> list[str]:
        """Identities of what is declared now, for the worker's row."""
        return [config.source_uid for config in self._configs().values()]

    async def declare(self, schedules: ScheduleStore) -> None:
        """Write every declared schedule, and let the ticker look."""
        configs = list(self._configs().values())
        for config in configs:
            await schedules.upsert(self._definition(config))
        await self._read(schedules, configs)
        self._declared = configs
        self._wake_ticker()

    def ticked_by(self, wake: asyncio.Event | None) -> None:
        """Wishes wake this event of the running loop from now on; None when no ticker runs."""
        self._ticker = None if wake is None else (asyncio.get_running_loop(), wake)

    async def write_wishes(self, schedules: ScheduleStore) -> None:
        """Write what was wished since the last poll; what cannot be written now stays."""
        for key, suspended in list(self._wishes.items()):
            async with self._writing:
                await self._write_wish(schedules, key, suspended=suspended)

    @property
    def has_declared(self) -> bool:
        """Whether this process has schedules to keep a snapshot of."""
        return bool(self._declared)

    async def look(self, connection: Connection, schedules: ScheduleStore) -> None:
        """Read the rows anew, in the ticker's transaction; nothing is asked when nothing is declared."""
        if self._declared:
            uids = [config.source_uid for config in self._declared]
            self._views = {view.uid: view for view in await schedules.views_on(connection, self._tenant, uids)}

    async def revive(self, schedules: ScheduleStore) -> None:
        """Declare again what was retired, or deleted, while this worker lives and declares it."""
        for config in list(self._declared):
            view = self._views.get(config.source_uid)
            if view is None or view.retired_reason is not None:
                logger.warning("schedule %s was retired or deleted; it is declared again", config.source_uid)
                await self._declare_again(schedules, config)

    async def _declare_again(self, schedules: ScheduleStore, config: PeriodicJobConfig) -> None:
        try:
            await schedules.upsert(self._definition(config))
        except TenantLimitExceeded as error:  # a limit that is younger than our start
            logger.error("schedule %s is left to itself: %s", config.source_uid, error)  # noqa: TRY400  it says it all
            self._declared.remove(config)

    async def _write_wish(self, schedules: ScheduleStore, key: str, *, suspended: bool) -> None:
        if self._wishes.get(key) is not suspended:
            return  # somebody changed their mind meanwhile
        await self._write(schedules, self._configs()[key], suspended=suspended)
        if self._wishes.get(key) is suspended:
            del self._wishes[key]

    async def _write(
        self,
        schedules: ScheduleStore,
        config: PeriodicJobConfig,
        *,
        suspended: bool,
        reason: str = "",
        by: str | None = None,
    ) -> None:
        definition = self._definition(config)
        while not await schedules.suspend(definition.key, suspended=suspended, reason=reason, by=by):
            await schedules.upsert(definition)  # nobody has started it yet

    async def _read(self, schedules: ScheduleStore, configs: Iterable[PeriodicJobConfig]) -> None:
        views = await schedules.views(self._tenant, [config.source_uid for config in configs])
        self._views = {**self._views, **{view.uid: view for view in views}}

    def _runs(self, key: str, config: PeriodicJobConfig) -> bool:
        if key in self._wishes:
            return not self._wishes[key]
        view = self._views.get(config.source_uid)
        return config.enabled if view is None else view.runs

    def _as_it_stands(self, key: str, config: PeriodicJobConfig) -> PeriodicJobConfig:
        shown = copy.copy(config)
        shown.enabled = self._runs(key, config)
        return shown

    def _wake_ticker(self) -> None:
        if self._ticker is not None:
            loop, wake = self._ticker
            loop.call_soon_threadsafe(wake.set)  # a synchronous call may come from any thread

    def _definition(self, config: PeriodicJobConfig) -> ScheduleDefinition:
        return ScheduleDefinition(
            key=ScheduleKey(tenant=self._tenant, kind=CODE, cluster="", uid=config.source_uid),
            name=config.template.job_name,
            generation=0,
            rule=config.rule,
            template=config.template,
            bounds=config.bounds,
            policy=config.policy,
            enabled=config.enabled,
        )


def _shown_rule(config: PeriodicJobConfig) -> dict[str, Any]:
    if config.interval is not None:
        return {"interval": config.interval}
    return {"cron": config.cron, "timezone": config.timezone or "Etc/UTC"}
