from __future__ import annotations

import inspect

import pytest

from daemon import texts

SENTENCES = {name: text for name, text in vars(texts).items() if name.isupper()}


@pytest.mark.parametrize("name", sorted(SENTENCES))
def test_every_sentence_is_for_people(name: str) -> None:
    text = SENTENCES[name].format(
        tool="Bash", steps=40, ahead=40, late="3 hours", who="Ada", percent=75, dollars=5.0
    )
    assert text == text.strip()
    assert text[-1] in ".…"
    assert "{" not in text
    for word in ("error", "exception", "traceback", "none", "null", "turn-", "session", "token"):
        assert word not in text.lower()
    assert len(text) < 200, "one breath"


def test_there_is_nothing_else_to_say_and_no_code_in_it() -> None:
    assert not [name for name, value in vars(texts).items() if inspect.isfunction(value)]
    assert len(SENTENCES) > 10
