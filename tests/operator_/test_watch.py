from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import kopf
import pytest
from kopf._cogs.clients import watching

from pg_scheduler_operator.errors import KubernetesError
from pg_scheduler_operator.resources import Key, Kind
from pg_scheduler_operator.watch import Ear, _settings, overheard, watch
from support.operator_world import body, periodic_job, scheduled_job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Heard:
    """What an ear has passed on."""

    def __init__(self) -> None:
        self.changed: list[tuple[Key, str]] = []
        self.gone: list[tuple[Key, str]] = []
        self.ear = Ear(
            changed=lambda *what: self.changed.append(what),
            gone=lambda *what: self.gone.append(what),
        )


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("event", ["ADDED", "MODIFIED", None])
def test_event_becomes_a_key_and_a_version_whatever_it_says(kind: Kind, event: str | None) -> None:
    heard = Heard()

    heard.ear.hear({"type": event, "object": body(kind, scheduled_job())})

    assert heard.changed == [(Key(kind=kind, namespace="billing", name="x"), "1")]
    assert heard.gone == []


def test_end_of_an_object_is_told_with_its_uid() -> None:
    heard = Heard()

    heard.ear.hear({"type": "DELETED", "object": body(Kind.PERIODIC_JOB, periodic_job())})

    assert heard.gone == [(Key(kind=Kind.PERIODIC_JOB, namespace="billing", name="x"), "u1")]
    assert heard.changed == []


async def test_events_are_heard_and_kopf_is_given_the_end_of_the_list_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it is given it would make a task of, for each object."""

    async def stream(**_: object) -> AsyncIterator[Any]:
        yield {"type": None, "object": body(Kind.PERIODIC_JOB, periodic_job())}
        yield watching.Bookmark.LISTED
        yield {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}}

    monkeypatch.setattr(watching, "infinite_watch", stream)
    heard, signs = Heard(), []
    arguments: Any = {"resource": SimpleNamespace(plural="periodicjobs"), "namespace": "billing"}

    with overheard(heard.ear, lambda *sign: signs.append(sign)):
        passed_on = [event async for event in watching.infinite_watch(**arguments)]

    assert passed_on == [watching.Bookmark.LISTED]
    assert len(heard.changed) == 1
    assert signs == [("billing/periodicjobs", listed) for listed in (False, True, False)]


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
    assert settings.watching.chunk_size == 500
    assert settings.networking.request_timeout == 30
    assert settings.process.ultimate_exiting_timeout is None


def test_stream_that_has_fallen_silent_is_renewed_in_time_for_what_it_has_missed() -> None:
    """Objects are to be taken up within a minute after any fault; a stream that lives has its bookmark before that."""
    stream = _settings().watching

    assert stream.server_timeout is not None
    assert stream.inactivity_timeout is not None
    assert stream.server_timeout < stream.inactivity_timeout < 60


async def test_watch_that_cannot_go_on_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def forbidden(**_: object) -> None:
        raise PermissionError("c4n4ry")

    monkeypatch.setattr(kopf, "operator", forbidden)

    with pytest.raises(KubernetesError, match=r"the watch has ended\. PermissionError") as caught:
        await watch(Heard().ear, namespaces=[], started=asyncio.Event(), told=lambda *_: None)

    assert "c4n4ry" not in str(caught.value)
