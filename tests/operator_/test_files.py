from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from pg_scheduler_operator.errors import InvalidManifest, ObjectGone
from pg_scheduler_operator.gateway.files import STATE_FILE, FolderResources
from pg_scheduler_operator.resources import FINALIZER, Key, Kind, ScheduledJobSpec, read

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pg_scheduler_operator.resources import Meta

A = Key(kind=Kind.SCHEDULED_JOB, namespace="default", name="a")
B = Key(kind=Kind.SCHEDULED_JOB, namespace="default", name="b")


def manifest(name: str, task: str = "t") -> str:
    return json.dumps(
        {
            "apiVersion": "pgscheduler.io/v1alpha1",
            "kind": "ScheduledJob",
            "metadata": {"name": name},
            "spec": {"template": {"spec": {"task": task}}},
        }
    )


def resources(folder: Path, *, write_status: bool = True, **options: Any) -> FolderResources:
    return FolderResources(folder, cluster="folder:x", write_status=write_status, **{"generations": {}, **options})


def look(served: FolderResources, times: int = 2) -> set[Key]:
    """Two looks, since a file must be the same in both to be read."""
    return {key for _ in range(times) for key in served.scan()}


def save(file: Path, text: str) -> None:
    """A save that changes the time stamp, however fast the test is."""
    before = file.stat().st_mtime_ns if file.exists() else 0
    file.write_text(text)
    os.utime(file, ns=(before + 10**9, before + 10**9))


async def meta(served: FolderResources, key: Key = A) -> Meta:
    body = await served.get(key)
    assert body is not None
    return read(ScheduledJobSpec, body, cluster="folder:x").meta


async def test_first_look_finds_every_object(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(manifest("a"))
    (tmp_path / "b.json").write_text(manifest("b"))
    (tmp_path / "notes.txt").write_text(manifest("c"))
    (tmp_path / ".hidden.yaml").write_text(manifest("d"))
    (tmp_path / "deeper.yaml").mkdir()
    served = resources(tmp_path)

    assert look(served, 1) == {A, B}
    assert look(served) == set()
    assert (await meta(served)).generation == 1


async def test_edit_of_the_spec_raises_the_generation_and_keeps_the_uid(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    save(file, manifest("a"))
    served = resources(tmp_path)
    look(served, 1)
    before = await meta(served)

    save(file, manifest("a", "u"))

    assert look(served) == {A}
    after = await meta(served)
    assert (after.uid, after.generation) == (before.uid, 2)


async def test_edit_of_anything_else_is_no_change(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    save(file, manifest("a"))
    served = resources(tmp_path)
    look(served, 1)

    save(file, "# a comment\n" + manifest("a"))

    assert look(served) == set()


async def test_file_is_read_only_when_it_has_settled(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    save(file, manifest("a"))
    served = resources(tmp_path)
    look(served, 1)

    save(file, "")  # an editor that empties the file before it writes
    assert look(served, 1) == set()
    save(file, manifest("a", "u"))
    assert look(served, 1) == set()

    assert look(served, 1) == {A}
    assert (await meta(served)).deletion_at is None


async def test_file_that_comes_back_at_once_was_never_away(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    save(file, manifest("a"))
    served = resources(tmp_path)
    look(served, 1)

    file.rename(tmp_path / "a.bak")  # an editor that moves the old file away before it writes
    assert look(served, 1) == set()
    (tmp_path / "a.bak").rename(file)

    assert look(served) == set()
    assert (await meta(served)).deletion_at is None


async def test_manifest_taken_away_is_being_deleted_until_it_is_let_go(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    save(file, manifest("a"))
    served = resources(tmp_path)
    look(served, 1)
    file.unlink()

    assert look(served) == {A}
    deleted = await meta(served)
    assert deleted.is_deleting
    assert deleted.is_held
    await served.set_finalizers(deleted, [])
    assert await served.get(A) is None


async def test_file_of_an_object_that_may_go_is_named_once_and_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    save(tmp_path / "a.yaml", manifest("a"))
    served = resources(tmp_path)
    look(served, 1)

    for _ in range(2):
        await served.remove(await meta(served))

    assert [record.message for record in caplog.records if "time to live" in record.message] == [
        "ScheduledJob default/a: its time to live has passed; take it out of a.yaml"
    ]
    assert (tmp_path / "a.yaml").exists()


async def test_manifest_that_comes_back_after_its_deletion_is_another_object(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    save(file, manifest("a"))
    served = resources(tmp_path)
    look(served, 1)
    before = await meta(served)
    file.unlink()
    look(served)
    save(file, manifest("a", "u"))

    assert look(served) == set()  # the old one must be let go first
    assert (await meta(served)).is_deleting
    await served.set_finalizers(await meta(served), [])

    assert look(served) == {A}
    after = await meta(served)
    assert after.uid != before.uid
    assert after.generation == 1


@pytest.mark.parametrize("broken", ["a: [", "- 1", "kind: x"])
async def test_broken_file_changes_nothing_and_is_told_once(
    tmp_path: Path, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "a.yaml"
    save(file, manifest("a"))
    save(tmp_path / "b.yaml", manifest("b"))
    served = resources(tmp_path)
    look(served, 1)

    save(file, broken)

    assert look(served, 5) == set()
    assert (await meta(served)).deletion_at is None
    assert caplog.text.count("a.yaml: PGS-041") == 1
    save(file, manifest("a", "u"))
    assert look(served) == {A}


async def test_object_in_two_files_counts_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.yaml").write_text(manifest("a", "first"))
    (tmp_path / "b.yaml").write_text(manifest("a", "second"))
    served = resources(tmp_path)

    assert look(served, 3) == {A}
    body = await served.get(A)
    assert body is not None
    assert body["spec"]["template"]["spec"]["task"] == "first"
    assert caplog.text.count("b.yaml: ScheduledJob default/a is in a.yaml already") == 1


async def test_status_is_written_beside_the_manifest_and_never_read(tmp_path: Path) -> None:
    told: list[tuple[Key, Mapping[str, Any]]] = []
    (tmp_path / "both.yaml").write_text(f"{manifest('a')}\n---\n{manifest('b')}\n")
    served = resources(tmp_path, on_status=lambda key, status: told.append((key, status)))
    look(served, 1)

    await served.write_status(await meta(served), {}, {"state": "Pending"})

    documents = list(yaml.safe_load_all((tmp_path / "both.status.yaml").read_text()))
    assert [document["metadata"]["name"] for document in documents] == ["a", "b"]
    assert documents[0]["status"] == {"state": "Pending"}
    assert "spec" not in documents[0]
    assert told == [(A, {"state": "Pending"})]
    assert look(served) == set()


async def test_status_file_goes_with_its_manifest(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    save(file, manifest("a"))
    served = resources(tmp_path)
    look(served, 1)
    await served.write_status(await meta(served), {}, {"state": "Pending"})
    file.unlink()
    look(served)

    await served.set_finalizers(await meta(served), [])

    assert not (tmp_path / "a.status.yaml").exists()


async def test_nothing_is_written_when_it_is_not_wanted(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(manifest("a"))
    served = resources(tmp_path, write_status=False)
    look(served, 1)

    await served.write_status(await meta(served), {}, {"state": "Pending"})

    assert [file.name for file in tmp_path.iterdir()] == ["a.yaml"]
    body = await served.get(A)
    assert body is not None
    assert body["status"] == {"state": "Pending"}


async def test_identity_outlives_the_process(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    save(file, manifest("a"))
    first = resources(tmp_path)
    look(first, 1)
    save(file, manifest("a", "u"))
    look(first)
    before = await meta(first)

    again = resources(tmp_path)
    look(again, 1)
    assert await meta(again) == before

    save(file, manifest("a", "v"))  # edited while nobody looked
    later = resources(tmp_path)
    look(later, 1)
    assert ((await meta(later)).uid, (await meta(later)).generation) == (before.uid, 3)


async def test_manifest_taken_away_while_nobody_looked_comes_back_as_another_object(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    save(file, manifest("a"))
    first = resources(tmp_path)
    look(first, 1)
    before = await meta(first)
    file.unlink()
    empty = resources(tmp_path)
    look(empty, 1)
    (tmp_path / "b.yaml").write_text(manifest("b"))
    look(empty)
    assert before.uid not in await empty.uids()
    save(file, manifest("a"))

    again = resources(tmp_path)
    look(again, 1)

    assert (await meta(again)).uid != before.uid


async def test_generation_without_a_state_file_is_above_that_of_the_row(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(manifest("a"))
    first = resources(tmp_path, write_status=False)
    look(first, 1)
    uid = (await meta(first)).uid

    again = resources(tmp_path, write_status=False, generations={uid: 7})
    look(again, 1)

    assert ((await meta(again)).uid, (await meta(again)).generation) == (uid, 8)


async def test_state_file_holds_no_argument(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(manifest("a", "c4n4ry"))
    look(resources(tmp_path), 1)

    assert "c4n4ry" not in (tmp_path / STATE_FILE).read_text()


async def test_write_to_an_object_that_is_gone_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    save(file, manifest("a"))
    served = resources(tmp_path)
    look(served, 1)
    before = await meta(served)
    await served.set_finalizers(before, [])

    with pytest.raises(ObjectGone):
        await served.write_status(before, {}, {"state": "Pending"})


async def test_list_before_the_first_look_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidManifest):
        await resources(tmp_path).uids()


async def test_finalizer_that_is_added_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "a.yaml").write_text(manifest("a"))
    served = resources(tmp_path)
    look(served, 1)

    await served.set_finalizers(await meta(served), [FINALIZER])

    assert await served.get(A) is not None
