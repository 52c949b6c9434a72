"""Small things that are Bedrock's or Vertex's alone."""

from __future__ import annotations

import base64
import json

import pytest

from daemon.clock import ManualClock
from daemon.credentials import AccessKey, aws_key, parts, service_account
from daemon.gateway.body import judge
from daemon.gateway.rules import MESSAGES, Endpoint
from daemon.gateway.upstreams import Dialect, GarbledError, Upstream, Wish, open_dialect
from daemon.gateway.upstreams.bedrock import StreamReader
from daemon.gateway.upstreams.errors import ErrorReader
from daemon.gateway.upstreams.eventstream import EventMessage
from daemon.gateway.upstreams.vertex import address_of

MODEL = "claude-sonnet-5"
ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc"
ACCOUNT = {
    "type": "service_account",
    "client_email": "a@b.iam.gserviceaccount.com",
    "private_key_id": "1",
    "private_key": "a key",
    "token_uri": "https://oauth2.googleapis.com/token",
    "project_id": "b",
}


def bedrock(id_: str, key: str = "an API key") -> Dialect:
    place = Upstream("bedrock", region="eu-west-1", models={MODEL: id_})
    return open_dialect(place, key, ManualClock())


async def test_a_model_s_id_is_one_part_of_the_address_whatever_it_is() -> None:
    body = json.dumps({"model": MODEL, "max_tokens": 5, "messages": [], "stream": True}).encode()
    dialect = bedrock(ARN)
    judged = judge(body, MODEL, without=dialect.without)
    wish = Wish(Endpoint(MESSAGES, "beta=true"), (("x-api-key", "an agent's"),), judged, 5)
    order = await dialect.order(wish)
    assert str(order.url) == (
        "https://bedrock-runtime.eu-west-1.amazonaws.com/model/"
        "arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Aapplication-inference-profile%2Fabc"
        "/invoke-with-response-stream"
    )
    assert dict(order.headers)["authorization"] == "Bearer an API key"
    assert "an agent's" not in str(order)
    assert json.loads(order.body) == {
        "messages": [],
        "max_tokens": 5,
        "anthropic_version": "bedrock-2023-05-31",
    }


def test_what_is_no_global_endpoint_costs_a_tenth_more() -> None:
    assert bedrock("global.anthropic.claude-sonnet-5").premium(MODEL) == 1.0
    assert bedrock("us.anthropic.claude-sonnet-5").premium(MODEL) == 1.1
    assert bedrock(ARN).premium(MODEL) == 1.1


@pytest.mark.parametrize(
    ("region", "address"),
    [
        ("europe-west1", "https://europe-west1-aiplatform.googleapis.com"),
        ("global", "https://aiplatform.googleapis.com"),
        ("eu", "https://aiplatform.eu.rep.googleapis.com"),
    ],
)
def test_each_region_of_vertex_has_its_address(region: str, address: str) -> None:
    assert address_of(region) == address


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (400, b'{"message": "prompt is too long"}', "prompt is too long"),
        (400, b'[{"error": {"code": 400, "message": "no such field"}}]', "no such field"),
        (400, b"<html>", "It answered 400."),
        (403, b'{"message": "arn:aws:iam::123456789012:user/x may not"}', "It answered 403."),
        (500, b'{"message": "in account 123456789012"}', "It answered 500."),
    ],
)
def test_of_an_error_only_what_helps_is_told(status: int, body: bytes, told: str) -> None:
    reader = ErrorReader(status)
    assert reader.feed(body) == b""
    assert json.loads(reader.end())["error"]["message"] == told
    assert reader.end() == b""


def event(payload: object, kind: str = "chunk") -> bytes:
    headers = {":message-type": "event", ":event-type": kind}
    return EventMessage(headers, json.dumps(payload).encode()).encode()


def test_events_of_bedrock_s_that_nobody_knows_yet_are_passed_over() -> None:
    ping = base64.b64encode(b'{"type": "ping"}').decode()
    told = StreamReader().feed(event({"x": 1}, "metadata") + event({"bytes": ping}))
    assert told == b'event: ping\ndata: {"type": "ping"}\n\n'


@pytest.mark.parametrize(
    "payload", [{}, [], {"bytes": "?"}, {"bytes": base64.b64encode(b"[]").decode()}]
)
def test_an_event_that_holds_no_event_is_garbled(payload: object) -> None:
    with pytest.raises(GarbledError):
        StreamReader().feed(event(payload))


def test_a_stream_that_ends_within_a_message_is_garbled() -> None:
    reader = StreamReader()
    reader.feed(event({"bytes": ""})[:20])
    with pytest.raises(GarbledError):
        reader.end()


def test_keys_are_known_by_their_form() -> None:
    assert aws_key("ABSK-plain") == "ABSK-plain"
    text = json.dumps({"AccessKeyId": "AKID", "SecretAccessKey": "s", "SessionToken": None})
    assert aws_key(text) == AccessKey("AKID", "s")
    assert service_account(json.dumps(ACCOUNT)).project == "b"
    assert parts(json.dumps(ACCOUNT)) == ["a key"]
    assert parts("sk-ant-plain") == []


@pytest.mark.parametrize(
    "wrong",
    [
        "sk-ant-plain",
        "[]",
        json.dumps({**ACCOUNT, "type": "authorized_user"}),
        json.dumps({**ACCOUNT, "private_key": None}),
        json.dumps({**ACCOUNT, "token_uri": "http://example.com/token"}),
    ],
)
def test_what_is_no_service_account_is_refused_in_a_sentence(wrong: str) -> None:
    with pytest.raises(ValueError, match="service account"):
        service_account(wrong)


def test_half_an_access_key_is_refused_and_so_is_a_private_key_that_is_none() -> None:
    with pytest.raises(ValueError, match="SecretAccessKey"):
        aws_key('{"AccessKeyId": "AKID"}')
    place = Upstream("vertex", region="global")
    with pytest.raises(ValueError, match="no RSA key"):
        open_dialect(place, json.dumps(ACCOUNT), ManualClock())
