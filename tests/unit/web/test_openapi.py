"""The document of OpenAPI is valid, and says what the code does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.routing import Route

from api_rig import Rig
from epaxos.web.api import openapi
from epaxos.web.api.problems import KINDS, NO_METHOD, NO_PAGE


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    told: dict[str, Any] = json.loads(json.dumps(openapi.document()))
    return told


def test_it_is_valid(document: dict[str, Any]) -> None:
    from openapi_spec_validator import validate  # noqa: PLC0415 - all who share the tests would pay for it

    validate(document)


def test_it_has_the_paths_and_methods_that_are_served(document: dict[str, Any]) -> None:
    told = {
        path: {method for method in item if method != "parameters"}
        for path, item in document["paths"].items()
    }
    served: dict[str, set[str]] = {}
    for route in Rig().api.routes():
        assert isinstance(route, Route)
        methods = {method.lower() for method in route.methods or ()}
        path = route.path.replace(":path", "")
        served[path] = methods - ({"head"} if "head" not in told[path] else set())
    assert told == served


def test_every_kind_of_problem_is_told(document: dict[str, Any]) -> None:
    for kind in set(KINDS) - {NO_PAGE, NO_METHOD}:
        assert f"(`{kind.name}`)" in json.dumps(document["paths"])
