"""The document names what the relay serves, and refers to nothing that is not in it."""

import json
import re

from edge_schemas.openapi.document import openapi_document
from edge_schemas.wire import routes
from edge_schemas.wire.errors import ErrorCode


def test_every_reference_leads_somewhere() -> None:
    document = openapi_document()
    wanted = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(document)))
    assert wanted == set(document["components"]["schemas"])


def test_it_describes_every_path_of_the_wire() -> None:
    """Health, metrics and the document itself are for machines around the relay, not part of the wire."""
    elsewhere = {routes.HEALTHZ, routes.READYZ, routes.METRICS, routes.OPENAPI}
    elsewhere |= {routes.GATE_EXECUTION, routes.GATE_CENTRE, routes.GATE_WHY}
    known = {value for name, value in vars(routes).items() if name.isupper() and str(value).startswith("/")}
    assert set(openapi_document()["paths"]) == known - elsewhere


def test_every_path_parameter_is_declared() -> None:
    for path, methods in openapi_document()["paths"].items():
        for operation in methods.values():
            declared = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
            assert declared == set(re.findall(r"{(\w+)}", path))


def test_every_code_but_the_general_one_belongs_to_an_operation() -> None:
    told = json.dumps(openapi_document()["paths"])
    general, of_the_bridge = ErrorCode.METHOD_NOT_ALLOWED, ErrorCode.RELAY_UNAVAILABLE
    assert {code for code in ErrorCode if f'"{code}"' not in told} == {general, of_the_bridge}
