"""The OpenAPI description names every route, who may ask it, and bodies that its protocol reads."""

from __future__ import annotations

import re
from types import MappingProxyType, SimpleNamespace
from typing import Any
from unittest.mock import Mock

import orjson
import pytest

from ct.contracts import Feature
from serving.plane.table import ServedModel
from serving.rows import Layout
from serving.web import front, openapi
from serving.web.access import ADMIN, NONE
from serving.web.messages import Request
from serving.web.routes import Routes

BENTOMLS = {"/metrics"}
"""What is described, and answered behind our routes."""


def model(name: str, **example: Any) -> ServedModel:
    """A model with the features of an example."""
    dtypes = {str: "string", float: "float32", int: "int64"}
    features = tuple(Feature(name=each, dtype=dtypes[type(value)]) for each, value in example.items())
    version: Any = SimpleNamespace(version=3, layout=Layout(features), example=example)
    return ServedModel(name, version, MappingProxyType({3: version}))


ONE = {"trips": model("trips", carrier="U,A", distance=2.0)}
TWO = {**ONE, "stays": model("stays", nights=3, city="Paris")}
TABLE = front._table(Mock(), Mock())


def routes(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any], Any]]:
    """Each described route: its method, a path with the parameters' examples, its operation, and its target."""
    found = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            real = path
            for each in operation.get("parameters", ()):
                real = real.replace(f"{{{each['name']}}}", str(each["example"]))
            target = None if path in BENTOMLS else Routes(TABLE).find(method.upper(), real)
            found.append((method.upper(), real, operation, target))
    return found


@pytest.mark.parametrize("models", [ONE, TWO])
def test_every_route_is_described(models: dict[str, ServedModel]) -> None:
    """Each pattern of the table, with a version and a label where it takes them; and nothing that is not there."""
    described = routes(openapi.describe(models, needs_token=False))
    for pattern, target in TABLE:
        paths = [path for method, path, _, _ in described if method == target.method and re.fullmatch(pattern, path)]
        assert paths, pattern
        for group, part in (("version", "/versions/3"), ("label", "/labels/champion")):
            assert any(part in path for path in paths) is (f"?P<{group}>" in pattern), pattern
        if "?P<model>" in pattern:
            assert {path.split("/")[3].partition(":")[0] for path in paths} == models.keys()


@pytest.mark.parametrize("needs_token", [True, False])
def test_it_says_who_may_ask(*, needs_token: bool) -> None:
    """Nobody needs a token for health, and everybody for a rollback."""
    document = openapi.describe(ONE, needs_token=needs_token)
    assert ("security" in document) is needs_token
    for _, path, operation, target in routes(document):
        if target is None:
            assert "security" not in operation
        elif target.scope == ADMIN:
            assert operation["security"] == [{"token": []}]
        else:
            assert ("security" in operation) is (target.scope == NONE), path
            assert operation.get("security", []) == []


@pytest.mark.parametrize("models", [ONE, TWO])
def test_every_example_is_read_by_its_protocol(models: dict[str, ServedModel]) -> None:
    """As the row that it was made of; columns and CSV too."""
    read = 0
    for method, path, operation, target in routes(openapi.describe(models, needs_token=False)):
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
            for name, example in content.get("examples", {}).items():
                body = example["value"].encode() if media_type == "text/csv" else orjson.dumps(example["value"])
                asked = target.model or (name if path == "/predict" else min(models))
                version = models[asked].serving
                request = Request(method, path, b"", [(b"content-type", media_type.encode())], "", body)
                rows = target.decode(request, version.layout, 10).rows
                assert rows.columns() == {feature: [value] for feature, value in version.example.items()}
                read += 1
    # For each model `:predict` in rows and columns, three times, and `infer` twice; MLflow's four; BentoML's for each.
    assert read == len(models) * (3 * 2 + 2) + 4 + len(models)


def test_mlflows_route_says_when_it_needs_the_models_name() -> None:
    """With several models, there is no other way to tell."""
    for models, needed in ((ONE, False), (TWO, True)):
        operation = openapi.describe(models, needs_token=False)["paths"]["/invocations"]["post"]
        (parameter,) = operation["parameters"]
        assert (parameter["name"], parameter["in"], parameter["required"]) == ("model", "query", needed)
        assert parameter["schema"]["enum"] == sorted(models)


def test_without_a_model_there_is_nothing_to_predict() -> None:
    """What can be asked then is described."""
    paths = openapi.describe({}, needs_token=True)["paths"]
    assert {"/livez", "/readyz", "/v2/repository/index", "/metrics"} <= paths.keys()
    assert not {"/invocations", "/predict"} & paths.keys()
