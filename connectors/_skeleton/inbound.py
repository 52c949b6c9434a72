"""What a file in the inbox means. Pure: bytes in, Message or Unreadable out, no I/O."""

from __future__ import annotations

from daemon.model import ConversationId, Message, Priority, Sender, Trust, Unreadable


def parse(connector: str, name: str, content: bytes, changed_at: float) -> Message | Unreadable:
    """`holiday.2.txt` is a message of the conversation "holiday"; its name is its outside id.

    Whoever can write to the folder is trusted as a member: trust comes from where a text was
    found, never from what it says.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return Unreadable(connector, name, "not UTF-8", content)
    topic = name.partition(".")[0]
    return Message(
        connector=connector,
        outside_id=name,
        conversation=ConversationId(f"{connector}:{topic}"),
        sender=Sender(f"{connector}:folder", "Somebody", Trust.MEMBER),
        text=text,
        sent_at=changed_at,
        priority=Priority.MAIL,
        target={"topic": topic},
    )
