"""Who goes next: by class and age, once each, and what a flood costs."""

from __future__ import annotations

import time
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from daemon.model import ConversationId, Priority, ReadyConversation
from daemon.runqueue import AGEING_SECONDS, RunQueue, order

BOTH = list(Priority)


def ready(name: str, since: float, priority: Priority = Priority.CHAT) -> ReadyConversation:
    return ReadyConversation(ConversationId(name), priority, since=since, latest=since)


def drained(queue: RunQueue, now: float) -> list[str]:
    taken: list[str] = []
    while (one := queue.take(now, BOTH)) is not None:
        taken.append(one.id)
    return taken


def test_chat_goes_before_mail_until_the_mail_has_waited_long() -> None:
    queue = RunQueue()
    queue.put(ready("mail", 0, Priority.MAIL), 0)
    queue.put(ready("chat", 10), 10)
    assert drained(queue, 20) == ["chat", "mail"]
    queue.put(ready("mail", 0, Priority.MAIL), 0)
    queue.put(ready("chat", AGEING_SECONDS), AGEING_SECONDS)
    assert drained(queue, AGEING_SECONDS) == ["mail", "chat"]


def test_only_a_class_with_room_goes() -> None:
    queue = RunQueue()
    queue.put(ready("mail", 0, Priority.MAIL), 0)
    assert queue.take(1, [Priority.CHAT]) is None
    assert queue.take(1, []) is None
    assert drained(queue, 1) == ["mail"]


def test_what_is_not_due_waits_and_says_until_when() -> None:
    queue = RunQueue()
    queue.put(ready("later", 0), 50)
    assert queue.take(49, BOTH) is None
    assert queue.next_due() == 50
    assert drained(queue, 50) == ["later"]
    assert queue.next_due() is None


def test_what_was_put_again_counts_as_it_is_now_and_what_was_dropped_not_at_all() -> None:
    queue = RunQueue()
    queue.put(ready("a", 1), 1)
    queue.put(ready("b", 2), 2)
    queue.put(replace(ready("a", 1), latest=9), 9)
    assert drained(queue, 8) == ["b"]
    assert drained(queue, 9) == ["a"]
    queue.put(ready("c", 3), 3)
    queue.drop(ConversationId("c"))
    assert (drained(queue, 9), len(queue)) == ([], 0)


def test_it_says_how_many_go_before_one_that_comes_now() -> None:
    queue = RunQueue()
    for number in range(3):
        queue.put(ready(f"chat {number}", number), number)
    queue.put(ready("mail", 5, Priority.MAIL), 5)
    assert queue.ahead(Priority.CHAT, 10) == 3
    assert queue.ahead(Priority.MAIL, 10) == 4


@given(
    st.lists(st.tuples(st.floats(0, 2000), st.sampled_from(BOTH)), max_size=40),
    st.floats(2000, 4000),
)
def test_it_drains_in_the_order_of_the_rule(came: list[tuple[float, Priority]], now: float) -> None:
    queue, all_ = RunQueue(), []
    for number, (since, priority) in enumerate(came):
        all_.append(ready(str(number), since, priority))
        queue.put(all_[-1], since)
    taken = drained(queue, now)
    by_id = {one.id: order(one, now) for one in all_}
    assert sorted(taken) == sorted(by_id)
    assert [by_id[ConversationId(id_)] for id_ in taken] == sorted(by_id.values())


def test_a_flood_of_mail_costs_a_chat_message_nothing() -> None:
    """Each look used to sort all that waits: 10,000 looks at 10,000 mails took minutes."""
    queue = RunQueue()
    for number in range(10_000):
        queue.put(ready(f"m{number}", number, Priority.MAIL), number)
    queue.take(10_000, [])
    began = time.process_time()
    for _ in range(10_000):
        assert queue.take(10_000, [Priority.CHAT]) is None
    assert time.process_time() - began < 2.0, "0.02 s on an idle core"
