"""What can be asked over HTTP, as an OpenAPI 3.1 page: made from the table that is served."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from daemon.guard import MARK, PROBES, READING
from daemon.model import HealthState

Schema = Mapping[str, Any]

TEXT: Schema = {"type": "string"}
ERROR: Schema = {
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
}


def fields(optional: Mapping[str, Schema] | None = None, /, **required: Schema) -> Schema:
    """An object with these fields, and perhaps others."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": sorted(required),
    }


def rows(row: Schema) -> Schema:
    return {"type": "array", "items": row}


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that can be asked. `answers` has the shape of the answer by status, besides those
    that any request may get; `media` is the type of those that are no error.
    """

    method: str
    path: str
    summary: str
    answers: Mapping[int, Schema]
    media: str = "application/json"


def document(operations: Iterable[Operation], version: str) -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        described = paths.setdefault(operation.path, {})
        described[operation.method.lower()] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Postroom",
            "version": version,
            "description": "What the command line reads of a running daemon, and asks of it.",
        },
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _described(operation: Operation) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"{(\w+)}", operation.path)
    ]
    if operation.method not in READING:
        mark = {"name": MARK, "in": "header", "required": True, "schema": {"const": "1"}}
        parameters.append(mark)
    refused = {403: ERROR} if operation.path in PROBES else {401: ERROR, 403: ERROR}
    answers = {**refused, 500: ERROR, **operation.answers}
    return {
        "summary": operation.summary,
        "parameters": parameters,
        # With a token the probes tell more; without one configured, this machine needs none.
        "security": [{"token": []}, {}] if operation.path in PROBES else [{"token": []}],
        "responses": {
            str(status): {
                "description": _DESCRIPTIONS[status],
                "content": {_media(operation, schema): {"schema": schema}},
            }
            for status, schema in sorted(answers.items())
        },
    }


def _media(operation: Operation, schema: Schema) -> str:
    return "application/json" if schema is ERROR else operation.media


_DESCRIPTIONS = {
    200: "The answer",
    401: "It takes the daemon's token",
    403: "Refused: another Host, a page's Origin, or a change without its mark",
    404: "Nothing is known by this id",
    500: "A defect or a fault of the disk; the log says more",
    503: "Not now",
}


# --- the shapes of answers: docs/trace.md tells them for people -----------------------------------

_STRING: Schema = {"type": "string"}
_NAME: Schema = {"type": ["string", "null"]}
_NUMBER: Schema = {"type": "number"}
_SOME: Schema = {"type": ["number", "null"]}
_BOOLEAN: Schema = {"type": "boolean"}
OBJECT: Schema = {"type": "object"}

DONE = fields(done=_BOOLEAN)
DECIDED = fields({"told": _STRING}, done=_BOOLEAN)
ERASED = fields(erased={"type": "integer"})
READY = fields(
    ready=_BOOLEAN,
    waiting_for={"type": "object", "additionalProperties": _STRING},
    isolation=_NAME,
)
_STATE: Schema = {"enum": [state.value for state in HealthState]}
_COMPONENT = fields(state=_STATE, ready=_BOOLEAN, detail=_STRING, age_seconds=_SOME, numbers=OBJECT)
_DETAILS: Mapping[str, Schema] = {
    "version": _STRING,
    "uptime_seconds": _NUMBER,
    "isolation": _STRING,
    "components": {"type": "object", "additionalProperties": _COMPONENT},
}
HEALTH = fields(_DETAILS, status=_STATE)
STATUS = fields(status=_STATE, ready=_BOOLEAN, **_DETAILS)
STORY = fields(
    id=_STRING,
    messages=rows(fields(id=_STRING, state=_STRING, registered_at=_NUMBER)),
    turns=rows(fields(id=_STRING, state=_STRING, claimed_at=_NUMBER, cost_usd=_NUMBER)),
    effects=rows(fields(id=_STRING, state=_STRING, kind=_STRING, created_at=_NUMBER)),
    timeline=rows(fields(at=_NUMBER, what=_STRING, id=_STRING, detail=_NAME)),
)
_BUDGET = fields(
    budget=_STRING,
    limit_usd=_NUMBER,
    spent_usd=_NUMBER,
    held_usd=_NUMBER,
    raised_usd=_NUMBER,
    closed=_BOOLEAN,
)
BUDGETS = fields(budgets=rows(_BUDGET))
RAISED = fields(budget=_STRING, dollars=_NUMBER, until=_SOME)
LETTERS = fields(
    dead=rows(
        fields(
            id=_STRING,
            kind={"enum": ["turn", "effect", "message"]},
            connector=_STRING,
            conversation=_NAME,
            at=_NUMBER,
            reason=_STRING,
        )
    )
)
CONVERSATIONS = fields(
    conversations=rows(
        fields(
            id=_STRING,
            connector=_STRING,
            trust=_STRING,
            last_at=_NUMBER,
            state=_STRING,
            waiting={"type": "integer"},
            turns={"type": "integer"},
            cost_usd=_SOME,
        )
    )
)
