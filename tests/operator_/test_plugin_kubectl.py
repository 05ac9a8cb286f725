"""What kubectl's complaints mean, and which object is meant by the words of a command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml

from pg_scheduler.errors import InvalidArgument
from pg_scheduler_operator import errors
from pg_scheduler_operator.plugin.kubectl import error_of, objects_in
from pg_scheduler_operator.plugin.references import PLURALS, Reference, parse
from support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


@pytest.mark.parametrize(
    ("complaint", "error"),
    [
        ('Error from server (NotFound): periodicjobs.pgscheduler.io "x" not found', errors.ObjectGone),
        ('Error from server (Forbidden): leases is forbidden: User "ann" cannot list', errors.RightMissing),
        ("error: You must be logged in to the server (Unauthorized)", errors.RightMissing),
        ('Error from server (Conflict): Operation cannot be fulfilled on "x"', errors.ObjectChanged),
        ('error: the server doesn\'t have a resource type "periodicjobs"', errors.KubernetesError),
        ("error: timed out waiting for the condition on scheduledjobs/x", errors.WaitTooShort),
        ('error: context "nowhere" does not exist', errors.KubernetesNotConfigured),
        (
            "Error in configuration: context was not found for specified context: nowhere",
            errors.KubernetesNotConfigured,
        ),
        ("error: stat /nowhere: no such file or directory", errors.KubernetesNotConfigured),
        (
            "The connection to the server localhost:8080 was refused - did you specify the right host or port?",
            errors.KubernetesUnreachable,
        ),
        ("Unable to connect to the server: dial tcp 10.0.0.1:443: i/o timeout", errors.KubernetesUnreachable),
        ("Error from server (ServiceUnavailable): the server is unable to handle it", errors.KubernetesUnreachable),
        ("Error from server (InternalError): an error on the server", errors.KubernetesError),
        ("", errors.KubernetesError),
    ],
)
def test_complaint_is_a_typed_error(complaint: str, error: type[Exception]) -> None:
    assert type(error_of(complaint)) is error


def test_complaint_about_a_value_does_not_repeat_it() -> None:
    complaint = (
        'The ScheduledJob "x" is invalid: spec.template: Invalid value:'
        ' {"spec":{"kwargs":{"token":"s3cret: yes"}}}: it has started'
    )

    assert "s3cret" not in str(error_of(complaint))
    assert "spec.template: it has started" in str(error_of(complaint))


def test_several_objects_in_a_row_are_read() -> None:
    one, two, three = ({"kind": "ScheduledJob", "n": n} for n in range(3))
    text = json.dumps(one, indent=4) + "\n" + json.dumps({"kind": "List", "items": [two, three]}) + "\n"

    assert objects_in(text) == [one, two, three]
    assert objects_in("") == []


@pytest.mark.parametrize(
    ("words", "shorts", "short"),
    [
        (["pjob/x"], ["pjob"], "pjob"),
        (["x"], ["pjob"], "pjob"),
        (["sjob", "x"], PLURALS, "sjob"),
        (["PeriodicJob", "x"], PLURALS, "pjob"),
        (["workerpools.pgscheduler.io/x"], PLURALS, "wpool"),
    ],
)
def test_words_name_an_object(words: Sequence[str], shorts: Collection[str], short: str) -> None:
    assert parse(words, shorts) == Reference(short=short, name="x")


@pytest.mark.parametrize("words", [["x"], ["wpool/x"], ["pod/x"], ["pjob"], ["pjob/"], ["pjob/x", "y"], ["/x"]])
def test_other_words_are_refused_with_what_to_write(words: Sequence[str]) -> None:
    with pytest.raises(InvalidArgument, match=r"names none of pjob, sjob\. write it as pjob/NAME"):
        parse(words, ["pjob", "sjob"])


def test_short_names_are_those_of_the_definitions() -> None:
    names = [yaml.safe_load(file.read_text())["spec"]["names"] for file in (ROOT / "crds").glob("*.yaml")]

    assert {each["shortNames"][0]: each["plural"] for each in names} == PLURALS
