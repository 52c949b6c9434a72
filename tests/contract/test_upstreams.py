"""What agents get of every upstream behind the gateway: Anthropic's API, Bedrock and Vertex."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from daemon.credentials import AccessKey
from daemon.demo.clouds import StandInBedrock, StandInVertex
from daemon.demo.controls import Fault
from daemon.demo.model import StandInModel
from daemon.gateway import Outcome, Upstream
from daemon.gateway.prices import Metered, cost
from tests.integration.gateway_help import KEY, MODEL, Front, Rig, ask, rig, straight, turn

API_KEY = "bedrock-api-key-of-the-tests"
ACCESS = AccessKey("AKIDOFTHETESTS", "secret/of+the/tests", "session-token-of-the-tests")
IDS = {MODEL: "us.anthropic.claude-sonnet-5-v1:0"}
TEXT = "[[say:good morning to all of you]]"


def access_file(key: AccessKey, secret: str = "") -> str:
    """As a `credential_process` of AWS prints it."""
    values = {"AccessKeyId": key.id, "SecretAccessKey": secret or key.secret}
    return json.dumps({"Version": 1, **values, "SessionToken": key.session_token})


def bedrock(key: AccessKey | str) -> Front:
    @asynccontextmanager
    async def front(
        model: StandInModel, url: str | None, api_key: str
    ) -> AsyncIterator[tuple[Upstream, str]]:
        names = {id_: name for name, id_ in IDS.items()}
        async with StandInBedrock(model.url, KEY, key=key, models=names) as cloud:
            right = key if isinstance(key, str) else access_file(key)
            wrong = "withdrawn" if isinstance(key, str) else access_file(key, "withdrawn")
            place = Upstream("bedrock", url or cloud.url, cloud.region, models=IDS)
            yield place, right if api_key == KEY else wrong

    return front


@asynccontextmanager
async def vertex(
    model: StandInModel, url: str | None, api_key: str
) -> AsyncIterator[tuple[Upstream, str]]:
    async with (
        StandInVertex(model.url, KEY) as cloud,
        StandInVertex(model.url, KEY) as other,
    ):
        key = cloud.key_file() if api_key == KEY else cloud.key_file(other._key)
        yield Upstream("vertex", url or cloud.url, cloud.region), key


@dataclass(frozen=True)
class Kind:
    """One upstream: what stands before the model, and what it costs more than the list says."""

    front: Front
    premium: float

    def rig(self, **how: Any) -> AbstractAsyncContextManager[Rig]:
        return rig(front=self.front, **how)


KINDS = {
    "anthropic": Kind(straight, 1.0),
    "bedrock, by an API key": Kind(bedrock(API_KEY), 1.1),
    "bedrock, by an access key": Kind(bedrock(ACCESS), 1.1),
    "vertex": Kind(vertex, 1.1),
}


@pytest.fixture(params=list(KINDS.values()), ids=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


def events(stream: bytes) -> list[dict[str, Any]]:
    """What a client of the Messages API reads: named events with their data."""
    found = []
    for frame in stream.decode().split("\n\n"):
        if frame.strip():
            name, data = frame.split("\n", 1)
            event = json.loads(data.removeprefix("data: "))
            assert name == f"event: {event['type']}"
            found.append(event)
    return found


def said(stream: bytes) -> str:
    deltas = [event["delta"] for event in events(stream) if event["type"] == "content_block_delta"]
    return "".join(delta.get("text", "") for delta in deltas)


async def test_a_stream_is_answered_in_the_messages_api_s_own_form_and_metered(kind: Kind) -> None:
    async with kind.rig() as world:
        token = world.token(turn())
        async with world.post(token, ask(TEXT)) as answer:
            assert answer.status == 200
            assert answer.content_type == "text/event-stream"
            stream = await answer.read()
        kinds = [event["type"] for event in events(stream)]
        assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
        assert said(stream) == "good morning to all of you"
        await world.gateway.close_turn(token)
        (call,), (asked,) = world.book.calls, world.model.journal
        assert call.usage.output == asked.usage["output_tokens"]
        assert call.cost == pytest.approx(kind.premium * cost(Metered(MODEL, call.usage)))
        assert asked.body["model"] == MODEL
        assert token not in json.dumps([dict(asked.headers), asked.body])
        assert world.outcomes() == [Outcome.OK]


async def test_an_answer_in_one_piece_is_the_message(kind: Kind) -> None:
    async with kind.rig() as world:
        status, body = await world.say(world.token(turn()), ask(TEXT, stream=False))
        message = json.loads(body)
        assert (status, message["type"]) == (200, "message")
        assert message["content"] == [{"type": "text", "text": "good morning to all of you"}]
        await world.until(lambda: bool(world.book.calls))
        assert world.book.calls[0].usage.output > 0


async def test_a_long_request_goes_up_whole(kind: Kind) -> None:
    async with kind.rig() as world:
        long = ask(f"{'word ' * 30_000}{TEXT}")
        status, stream = await world.say(world.token(turn()), long)
        assert (status, said(stream)) == (200, "good morning to all of you")
        assert world.model.journal[0].body["messages"] == long["messages"]


async def test_what_was_wrong_with_a_request_is_told(kind: Kind) -> None:
    async with kind.rig() as world:
        call = {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {}}
        odd = ask() | {"messages": [{"role": "user", "content": "x"}] * 2}
        odd["messages"][0] = {"role": "assistant", "content": [call]}
        status, body = await world.say(world.token(turn()), odd)
        error = json.loads(body)["error"]
        assert (status, error["type"]) == (400, "invalid_request_error")
        assert "tool_use" in error["message"]
        assert world.outcomes() == [Outcome.INVALID]


async def test_a_busy_upstream_is_left_alone(kind: Kind) -> None:
    async with kind.rig() as world:
        world.model.fail(429)
        status, body = await world.say(world.token(turn()))
        assert (status, json.loads(body)["error"]["type"]) == (429, "rate_limit_error")
        assert world.outcomes() == [Outcome.RATE_LIMITED]
        assert world.gateway.rests() > 0


async def test_refused_credentials_are_told_to_operators_and_to_nobody_else(kind: Kind) -> None:
    async with kind.rig(api_key="sk-ant-withdrawn") as world:
        status, body = await world.say(world.token(turn()))
        assert (status, json.loads(body)["error"]["type"]) == (403, "permission_error")
        assert b"withdrawn" not in body
        assert world.keys == [True]
        assert world.outcomes() == [Outcome.KEY_REFUSED]


async def test_an_upstream_that_cannot_be_reached_is_a_502(kind: Kind) -> None:
    async with kind.rig(url="http://127.0.0.1:1") as world:
        status, body = await world.say(world.token(turn()))
        assert (status, json.loads(body)["error"]["type"]) == (502, "api_error")
        assert world.outcomes() == [Outcome.UNREACHABLE]


async def test_an_answer_that_is_cut_off_is_none_and_costs_what_came(kind: Kind) -> None:
    async with kind.rig() as world:
        token = world.token(turn())
        world.model.faults.add(Fault("cut"))
        async with world.post(token, ask(TEXT)) as answer:
            with pytest.raises(Exception, match="payload"):
                await answer.read()
        await world.gateway.close_turn(token)
        assert world.outcomes() == [Outcome.BROKEN]
        assert world.book.calls[0].usage.input > 0


# --- what only one of them has --------------------------------------------------------------------


async def test_bedrock_s_trouble_in_the_middle_of_a_stream_is_the_stream_s_error() -> None:
    clouds: list[StandInBedrock] = []

    @asynccontextmanager
    async def front(
        model: StandInModel, url: str | None, api_key: str
    ) -> AsyncIterator[tuple[Upstream, str]]:
        names = {id_: name for name, id_ in IDS.items()}
        async with StandInBedrock(model.url, KEY, key=API_KEY, models=names) as cloud:
            clouds.append(cloud)
            yield Upstream("bedrock", cloud.url, cloud.region, models=IDS), API_KEY

    async with rig(front=front) as world:
        clouds[0].breaks_off = "throttlingException"
        _, stream = await world.say(world.token(turn()), ask(TEXT))
        assert events(stream)[-1]["error"]["type"] == "rate_limit_error"
        assert world.outcomes() == [Outcome.RATE_LIMITED]
        assert world.gateway.rests() > 0


async def test_a_model_that_is_not_named_and_a_count_are_refused_before_bedrock_is_asked() -> None:
    async with rig(front=bedrock(API_KEY)) as world:
        token = world.token(turn())
        status, body = await world.say(token, ask(model="claude-haiku-4-5"))
        assert (status, json.loads(body)["error"]["type"]) == (404, "not_found_error")
        async with world.post(token, ask(), path="/v1/messages/count_tokens") as answer:
            assert answer.status == 404
        assert world.model.journal == []


async def test_a_token_of_google_s_is_asked_for_once_and_anew_when_it_is_refused() -> None:
    clouds: list[StandInVertex] = []

    @asynccontextmanager
    async def front(
        model: StandInModel, url: str | None, api_key: str
    ) -> AsyncIterator[tuple[Upstream, str]]:
        async with StandInVertex(model.url, KEY) as cloud:
            clouds.append(cloud)
            yield Upstream("vertex", cloud.url, cloud.region), cloud.key_file()

    async with rig(front=front) as world:
        token = world.token(turn())
        for _ in range(2):
            assert (await world.say(token))[0] == 200
        assert len(clouds[0].tokens) == 1
        clouds[0].revoke()
        assert (await world.say(token))[0] == 403
        assert (await world.say(token))[0] == 200, "the account is good, only its token was not"
        assert len(clouds[0].tokens) == 2
        assert world.keys == [True, False]
        clouds[0].lasts = 60  # which is over within the five minutes before its end
        clouds[0].revoke()
        await world.say(token)
        for _ in range(2):
            assert (await world.say(token))[0] == 200
        assert len(clouds[0].tokens) == 4
