"""What leaves. Pure: an answer in, effects out."""

from __future__ import annotations

from daemon.model import Answer, Effect, EffectKind, NewEffect, effect_id


def compose(answer: Answer) -> tuple[NewEffect, ...]:
    """One effect an answer; its id is the same however often the answer is composed."""
    return (
        NewEffect(
            id=effect_id(answer.key, 0),
            connector=answer.connector,
            conversation=answer.conversation,
            kind=EffectKind.POST,
            target=answer.messages[-1].target,
            body={"text": answer.text},
        ),
    )


def file_name(effect: Effect) -> str:
    """`holiday.eff-….txt`: the effect's id is in it, so the file can be found again."""
    return f"{effect.target['topic']}.{effect.id}.txt"
