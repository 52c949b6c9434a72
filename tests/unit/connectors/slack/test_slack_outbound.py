"""What leaves: where a text is cut, what is taken out of it, and how a post is found again."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.slack.outbound import (
    MAX_POST,
    carries,
    compose,
    compose_notice,
    neutral,
    post_arguments,
)
from connectors.slack.split import length, split
from daemon.model import (
    Answer,
    ConversationId,
    Effect,
    EffectKind,
    EffectState,
    Message,
    NewEffect,
    Priority,
    Sender,
    Trust,
)

ASKED = Message(
    connector="slack",
    outside_id="T1:C1:1.2",
    conversation=ConversationId("slack:T1:C1:1.2"),
    sender=Sender("slack:T1:U1", "bea", Trust.MEMBER),
    text="?",
    sent_at=1.2,
    priority=Priority.CHAT,
    target={"channel": "C1", "thread_ts": "1.2", "user": "U1"},
)


def answer(text: str) -> Answer:
    return Answer(
        key="turn-1/answer",
        conversation=ASKED.conversation,
        connector="slack",
        trust=Trust.MEMBER,
        messages=(ASKED,),
        text=text,
    )


def kept(new: NewEffect) -> Effect:
    return Effect(
        id=new.id,
        connector=new.connector,
        conversation=new.conversation,
        kind=new.kind,
        target=new.target,
        body=new.body,
        state=EffectState.PENDING,
        created_at=0.0,
    )


# --- cutting -------------------------------------------------------------------------------------

LIMIT = 300
prose = st.text(st.sampled_from("ab  \n\n-*1.`~\u20ac\U0001f600"), max_size=1500)
markdown = st.lists(
    st.sampled_from(
        [
            "A paragraph of some words.\n\n",
            "A line.\n",
            "- an item\n",
            "1. another item\n",
            "```python\n",
            "print('a line of code')\n",
            "```\n",
            "~~~~\n",
            "~~~\n",
            "x" * 350,
            "\U0001f600" * 200 + "\n",
            "word " * 90 + "\n",
        ]
    ),
    max_size=60,
).map("".join)


@given(prose | markdown)
def test_the_pieces_joined_are_the_text_and_each_is_within_the_limit(text: str) -> None:
    pieces = split(text, LIMIT)
    assert "".join(piece.text for piece in pieces) == text
    assert all(0 < length(piece.whole) <= LIMIT for piece in pieces)


@given(markdown)
def test_a_fence_that_is_cut_is_closed_and_opened_again(text: str) -> None:
    pieces = split(text, LIMIT)
    for before, after in pairwise(pieces):
        assert bool(before.closer) == bool(after.opener)
        assert after.opener.strip("\n")[:3] in ("", "```", "~~~")


def test_a_text_within_the_limit_is_one_piece() -> None:
    (piece,) = split("a" * LIMIT, LIMIT)
    assert piece.whole == "a" * LIMIT


def test_a_cut_falls_between_paragraphs() -> None:
    first, second = "one " * 50 + "\n\n", "- two\n" * 30
    assert [piece.text for piece in split(first + second, LIMIT)] == [first, second]


def test_a_cut_falls_before_a_list_item_rather_than_within_one() -> None:
    item = "- an item that goes on\n  over a second line of the source\n"
    for piece in split(item * 30, LIMIT):
        assert piece.text.startswith("- ")


def test_code_goes_on_in_its_language() -> None:
    text = "Look:\n\n```python\n" + "print('hello')\n" * 40 + "```\nDone.\n"
    first, *others = split(text, LIMIT)
    assert first.whole.endswith("print('hello')\n```")
    assert all(piece.whole.startswith("```python\nprint") for piece in others)
    assert others[-1].whole.endswith("```\nDone.\n")


def test_a_paragraph_before_code_is_not_held_up_by_it() -> None:
    text = "word " * 40 + "\n\n```\n" + "code\n" * 30 + "```\n"
    first, second = split(text, LIMIT)
    assert first.text == "word " * 40 + "\n\n"
    assert second.opener == ""


# --- composing -----------------------------------------------------------------------------------


def test_an_answer_goes_to_the_thread_as_markdown() -> None:
    (effect,) = compose(answer("**yes**"))
    assert effect.kind is EffectKind.POST
    assert post_arguments(kept(effect), "C1") == {
        "channel": "C1",
        "thread_ts": "1.2",
        "markdown_text": "**yes**",
        "unfurl_links": False,
        "unfurl_media": False,
        "metadata": {"event_type": "agent_reply", "event_payload": {"d": effect.id}},
    }


def test_a_long_answer_is_several_posts_with_ids_that_stay() -> None:
    long = answer("A line of an answer.\n" * 2000)
    effects = compose(long)
    assert len(effects) == 4
    assert effects == compose(long)
    assert len({effect.id for effect in effects}) == 4
    assert all(len(str(effect.body["markdown"])) <= MAX_POST for effect in effects)


@pytest.mark.parametrize("text", ["", "  \n\n "])
def test_nothing_to_say_is_no_post(text: str) -> None:
    assert compose(answer(text)) == ()


@pytest.mark.parametrize(
    "call",
    ["<!channel>", "<!here>", "<!everyone>", "<!HERE|x>", "<@U0001>", "<@W1|x>", "<!subteam^S1>"],
)
def test_an_answer_calls_nobody(call: str) -> None:
    assert call not in neutral(f"Hello {call} and {call}")
    assert neutral(f"a {call}").replace("\u200b", "") == f"a {call}"


@given(st.text(st.sampled_from("<!@>|UW1channelhr \u200b")))
def test_no_text_calls_anybody_however_it_is_written(text: str) -> None:
    shown = neutral(text).lower()
    assert not any(call in shown for call in ("<!channel", "<!here", "<@u", "<@w", "<@1"))


def test_what_calls_nobody_is_left_alone() -> None:
    text = "<!-- a comment --> <!DOCTYPE html> a < b, <https://a.example|x> mail <a@b.example>"
    assert neutral(text) == text


def test_a_notice_goes_to_a_channel_or_a_person() -> None:
    notice = compose_notice("slack", "turn-1", "C9", "mind this")
    assert (notice.kind, notice.target) == (EffectKind.NOTICE, {"channel": "C9"})
    assert notice == compose_notice("slack", "turn-1", "C9", "mind this")
    assert post_arguments(kept(notice), "C9")["thread_ts"] is None


def test_a_post_is_known_again_by_its_metadata_alone() -> None:
    (new,) = compose(answer("yes"))
    effect = kept(new)
    sent = {"text": "yes", "metadata": post_arguments(effect, "C1")["metadata"]}
    assert carries(sent, effect)
    assert not carries(sent, replace(effect, id="eff-other"))  # type: ignore[arg-type]
    others: tuple[object, ...] = (
        None,
        {},
        {"text": "yes"},
        {"metadata": []},
        {"metadata": {"event_payload": 1}},
    )
    for other in others:
        assert not carries(other, effect)
