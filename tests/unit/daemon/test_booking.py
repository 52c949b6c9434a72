"""Whom a turn's cost is booked on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from daemon.model import Priority, Sender, StoredMessage, Trust
from tests.integration.gateway_help import turn


@pytest.mark.parametrize(
    ("priority", "trust", "booked_on"),
    [
        (Priority.MAIL, Trust.MEMBER, "mail:bob@example.com"),
        (Priority.MAIL, Trust.PUBLIC, "connector:slack"),
        (Priority.CHAT, Trust.PUBLIC, "mail:bob@example.com"),
    ],
)
def test_an_address_that_anybody_can_borrow_pays_for_nothing(
    priority: Priority, trust: Trust, booked_on: str
) -> None:
    given = turn()
    stored = given.messages[0]
    sender = Sender("mail:bob@example.com", "Bob", trust)
    message = replace(stored.message, sender=sender, priority=priority)
    asked = replace(given, trust=trust, messages=(StoredMessage(stored.id, message, 0.0),))
    assert asked.booked_on == booked_on
