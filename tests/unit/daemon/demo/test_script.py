"""What the scripted model reads in a request, and what its directives and its colleague say."""

from __future__ import annotations

from typing import Any

import pytest

from daemon import prompts
from daemon.demo.colleague import FALLBACK, colleague
from daemon.demo.script import AGAIN, Reply, ToolCall, directed, read_ask

TOOL = '[[tool:Bash {"command": "ls"}]]'


def user(*blocks: Any) -> dict[str, Any]:
    return {
        "role": "user",
        "content": [{"type": "text", "text": b} if isinstance(b, str) else b for b in blocks],
    }


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "text", "text": text}]}


def result(text: str, *, is_error: bool = False) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "t", "content": text, "is_error": is_error}


def asked(*messages: dict[str, Any], tools: tuple[str, ...] = ("Bash",)) -> dict[str, Any]:
    return {"messages": list(messages), "tools": [{"name": name} for name in tools]}


def test_only_the_last_prompt_is_followed() -> None:
    body = asked(user("[[say:old]]"), assistant("old"), user("[[say:new]]"))
    assert directed(body) == Reply("new")


def test_reminders_and_system_messages_are_skipped() -> None:
    reminder = "<system-reminder>\n[[say:wrong]]\n</system-reminder>"
    late = {"role": "system", "content": "[[say:wrong too]]"}
    body = asked(user(reminder, "[[say:right]]"), late)
    assert directed(body) == Reply("right")


def test_tools_come_one_by_one_and_the_text_last() -> None:
    prompt = f'{TOOL} then [[tool:Write {{"file_path": "a", "content": "]]"}}]] [[say:done]]'
    call = assistant("")
    assert directed(asked(user(prompt))) == Reply(calls=(ToolCall("Bash", {"command": "ls"}),))
    second = Reply(calls=(ToolCall("Write", {"file_path": "a", "content": "]]"}),))
    assert directed(asked(user(prompt), call, user(result("x")))) == second
    both = (user(prompt), call, user(result("x")), call, user(result("y")))
    assert directed(asked(*both)) == Reply("done")


def test_without_say_the_tools_results_are_the_text() -> None:
    body = asked(
        user(TOOL), assistant(""), user(result("42\n<system-reminder>x</system-reminder>"))
    )
    assert directed(body) == Reply("42")


def test_results_before_the_prompt_are_history() -> None:
    body = asked(user(TOOL), assistant(""), user(result("x"), TOOL))
    assert directed(body).calls


def test_a_later_attempt_does_not_repeat_a_tool_that_had_its_result() -> None:
    again = prompts._AGAIN + "\n\n" + TOOL
    before = (user(TOOL), assistant(""), user(result("42")), assistant("No response requested."))
    assert AGAIN.match(again)
    assert directed(asked(*before, user(again))) == Reply("42")
    assert directed(asked(*before, user(again), assistant("x"), user(again))) == Reply("42")


def test_a_later_attempt_after_an_interrupt_does_not_repeat_one_either() -> None:
    note = user("[Request interrupted by user]")
    again = user(prompts._AGAIN + "\n\n" + TOOL)
    assert directed(asked(user(TOOL), assistant(""), user(result("42")), note, again)) == Reply(
        "42"
    )


def test_a_later_attempt_repeats_a_tool_that_was_cut_off() -> None:
    again = prompts._AGAIN + "\n\n" + TOOL
    before = (user(TOOL), assistant(""), user(result("interrupted", is_error=True)))
    assert directed(asked(*before, user(again))).calls


def test_echo_shows_the_messages_of_the_turn_in_order() -> None:
    body = asked(user("[[echo]]\n[slack | Ann]\nfirst\n\n[slack | Bob]\nsecond"))
    assert directed(body).text == "[slack | Ann]\nfirst\n\n[slack | Bob]\nsecond"


def test_a_prompt_that_stands_twice_is_followed_once() -> None:
    body = asked(user("[[say:one]]", "[[say:one]]"))
    assert directed(body) == Reply("one")
    assert read_ask(body).texts == ("[[say:one]]", "[[say:one]]")


def test_slow_spreads_the_text() -> None:
    assert directed(asked(user("[[slow:1.5]][[say:x]]"))) == Reply("x", spread=1.5)


@pytest.mark.parametrize("text", ["[[say:open", "[[tool:Bash {]]", "[[slow:soon]]", "[[hm]]"])
def test_what_is_no_directive_is_plain_text(text: str) -> None:
    assert directed(asked(user(text))) == Reply("ok")


@pytest.mark.parametrize(
    ("prompt", "part"),
    [
        ("[slack | Ann (U1) | member | 2026-01-01 09:00 UTC]\nHello!", "What can I do"),
        ("Subject: Refund\nHow do I get my money back?", "30 days"),
        ("When are you open on Saturday?", "10:00 to 14:00"),
        ("qwertz", FALLBACK),
    ],
)
def test_the_colleague_answers_by_keywords(prompt: str, part: str) -> None:
    assert part in colleague(asked(user(prompt))).text


def test_the_colleague_counts_with_a_tool_and_reports() -> None:
    prompt = user("Please count the words in 'the quick brown fox'")
    [call] = colleague(asked(prompt)).calls
    assert call.name == "Bash"
    assert "wc -w" in call.input["command"]
    report = colleague(asked(prompt, assistant(""), user(result("4\n"))))
    assert report == Reply("I counted: 4 word(s) in that text.")


def test_the_colleague_writes_a_file_in_its_folder() -> None:
    place = "<system-reminder>\n - Primary working directory: /some where/x\n</system-reminder>"
    prompt = "Write a file called notes.md saying: buy milk"
    [call] = colleague(asked(user(place, prompt), tools=("Write",))).calls
    assert call == ToolCall(
        "Write", {"file_path": "/some where/x/notes.md", "content": "buy milk\n"}
    )


def test_the_colleague_shows_a_files_lines_as_they_are() -> None:
    prompt = user("read notes.txt to me")
    shown = "     1\t12 chairs\n     2\t\n     3\t4 tables\n     4\t"
    body = asked(prompt, assistant(""), user(result(shown)), tools=("Read",))
    assert colleague(body).text == "This is in notes.txt:\n\n> 12 chairs\n> \n> 4 tables"


def test_the_colleague_says_which_tool_it_lacks() -> None:
    reply = colleague(asked(user("count the words in 'a b'"), tools=()))
    assert not reply.calls
    assert "Bash" in reply.text
