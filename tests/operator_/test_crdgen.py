from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from openapi_schema_validator import OAS30Validator
from pydantic import Field

from pg_scheduler_operator.crdgen import DEFINITIONS, crds, document, openapi, render
from pg_scheduler_operator.errors import UnsupportedSchema
from pg_scheduler_operator.resources.model import Model

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parents[2] / "crds"
EXAMPLES = Path(__file__).parents[2] / "examples" / "manifests"


def schemas() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema of every CRD with its path, but for what the API server itself describes."""
    for crd in crds():
        root = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for part in ("spec", "status"):
            yield from walk(f"{crd['metadata']['name']}.{part}", root["properties"][part])


def walk(path: str, schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from walk(f"{path}.{name}", child)
    for keyword in ("items", "additionalProperties"):
        if keyword in schema:
            yield from walk(f"{path}.{keyword}", schema[keyword])


def test_committed_crds_are_the_generated_ones() -> None:
    committed = {file.stem: yaml.safe_load(file.read_text()) for file in FOLDER.glob("*.yaml")}

    assert committed == {crd["spec"]["names"]["plural"]: crd for crd in crds()}


def test_rendered_crds_are_one_stream_of_documents() -> None:
    assert list(yaml.safe_load_all(render())) == crds()


def test_every_property_has_a_description() -> None:
    missing = [
        f"{path}.{name}"
        for path, schema in schemas()
        for name, child in schema.get("properties", {}).items()
        if not child.get("description", "").strip()
    ]

    assert missing == []


def test_every_text_list_and_map_is_bounded() -> None:
    def is_unbounded(schema: dict[str, Any]) -> bool:
        match schema.get("type"):
            case "string":
                return not {"maxLength", "enum", "format"} & schema.keys()
            case "array":
                return "maxItems" not in schema
            case "object":
                return not {"properties", "maxProperties"} & schema.keys()
            case _:
                return False

    assert [path for path, schema in schemas() if is_unbounded(schema)] == []


def test_no_spec_names_a_namespace() -> None:
    assert [path for path, _ in schemas() if "namespace" in path.rpartition(".")[2].lower()] == []


def test_crds_are_far_below_the_limit_of_an_annotation() -> None:
    assert all(len(document(crd)) < 64 * 1024 for crd in crds())


def test_conditions_are_a_map_by_type() -> None:
    for definition in DEFINITIONS:
        conditions = openapi(definition.status)["properties"]["conditions"]
        assert conditions["x-kubernetes-list-type"] == "map"
        assert conditions["x-kubernetes-list-map-keys"] == ["type"]


def test_columns_show_what_the_schema_has() -> None:
    for crd in crds():
        version = crd["spec"]["versions"][0]
        paths = {path.partition(f"{crd['metadata']['name']}")[2] for path, _ in schemas()}
        for column in version["additionalPrinterColumns"]:
            path = column["jsonPath"].partition("[")[0]
            assert path in paths | {".metadata.creationTimestamp"}, column


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda file: file.stem)
def test_examples_fit_the_schema(file: Path) -> None:
    roots = {crd["spec"]["names"]["kind"]: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"] for crd in crds()}

    for manifest in yaml.safe_load_all(file.read_text()):
        if manifest["kind"] in roots:
            OAS30Validator(roots[manifest["kind"]]).validate(manifest)


class WithoutDescription(Model):
    text: str = Field(max_length=1)


class WithoutBound(Model):
    text: str = Field(description="Text.")


class WithUnion(Model):
    value: int | str = Field(description="Either.")


class WithNullableDefault(Model):
    value: int | None = Field(default=3, description="Null would mean something.")


class WithUnknownKeyword(Model):
    value: int = Field(multiple_of=3, description="Threes.")


@pytest.mark.parametrize(
    "model",
    [WithoutDescription, WithoutBound, WithUnion, WithNullableDefault, WithUnknownKeyword],
    ids=lambda m: m.__name__,
)
def test_model_without_a_rule_makes_no_crd(model: type[Model]) -> None:
    with pytest.raises(UnsupportedSchema, match=model.__name__):
        openapi(model)
