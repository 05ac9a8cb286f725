from __future__ import annotations

import asyncio
from typing import Any

import kopf
import pytest

from pg_scheduler_operator.errors import KubernetesError
from pg_scheduler_operator.reconciler import KeyQueue
from pg_scheduler_operator.resources import Key, Kind
from pg_scheduler_operator.watch import Memo, _settings, changed, watch
from support.operator_world import body, scheduled_job


@pytest.mark.parametrize("kind", list(Kind))
async def test_event_becomes_a_key_whatever_it_says(kind: Kind) -> None:
    queue = KeyQueue()
    handler: Any = changed
    memo = Memo(queue=queue, is_own=lambda *_: False)

    for event in ("ADDED", "MODIFIED", "DELETED", None):
        await handler(body=body(kind, scheduled_job()), memo=memo, type=event)

    assert await queue.get() == Key(kind=kind, namespace="billing", name="x")
    assert not queue._waiting


async def test_event_of_what_we_have_written_is_no_news() -> None:
    queue = KeyQueue()
    handler: Any = changed
    key = Key(kind=Kind.SCHEDULED_JOB, namespace="billing", name="x")
    memo = Memo(queue=queue, is_own=lambda *version: version == (key, "7"))

    await handler(body=body(Kind.SCHEDULED_JOB, scheduled_job(), resourceVersion="7"), memo=memo)
    assert not queue._waiting
    await handler(body=body(Kind.SCHEDULED_JOB, scheduled_job(), resourceVersion="8"), memo=memo)
    assert queue._waiting == {key}


def test_every_kind_is_watched_and_only_watched() -> None:
    registry = kopf.get_default_registry()

    watched = {getattr(handler.selector, "any_name", None) for handler in registry._watching.get_all_handlers()}
    others = [*registry._changing.get_all_handlers(), *registry._spawning.get_all_handlers()]

    assert watched == {kind.plural for kind in Kind}
    assert others == []


def test_watch_posts_nothing_scans_nothing_and_ends_at_once() -> None:
    settings = _settings()

    assert not settings.posting.enabled
    assert settings.scanning.disabled
    assert settings.watching.server_timeout == 300
    assert settings.watching.inactivity_timeout == 70
    assert settings.watching.chunk_size == 500
    assert settings.networking.request_timeout == 30
    assert settings.queueing.worker_limit == 20
    assert settings.queueing.exit_timeout < 1
    assert settings.process.ultimate_exiting_timeout is None
    assert settings.persistence.finalizer.startswith("pgscheduler.io/")


def test_watch_passes_a_list_on_within_seconds() -> None:
    """A worker of kopf's is taken up by one object for as long as it idles: so many objects a second at most."""
    queueing = _settings().queueing

    assert queueing.worker_limit is not None
    assert queueing.worker_limit / queueing.idle_timeout >= 1000


def test_watch_copies_no_object() -> None:
    """Differences are for handlers that we do not have; kopf would look for them at each event."""
    raw: Any = body(Kind.SCHEDULED_JOB, scheduled_job())
    one = kopf.Body(raw)
    differences = _settings().persistence.diffbase_storage

    assert differences.fetch(body=one) is None
    assert differences.build(body=one) == {}


async def test_watch_that_cannot_go_on_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def forbidden(**_: object) -> None:
        raise PermissionError("c4n4ry")

    monkeypatch.setattr(kopf, "operator", forbidden)

    with pytest.raises(KubernetesError, match=r"the watch has ended\. PermissionError") as caught:
        await watch(KeyQueue(), namespaces=[], started=asyncio.Event(), told=lambda *_: None, is_own=lambda *_: False)

    assert "c4n4ry" not in str(caught.value)
