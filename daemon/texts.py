"""Every sentence that the daemon itself says to people in a conversation. Never an exception's."""

from __future__ import annotations

WORKING = "is reading your message…"
NEXT = "is busy; your message is next…"
QUEUED = "is busy; {ahead} conversations are ahead of yours…"
USING = "is using {tool}…"

LONG_QUEUE = (
    "I'm busy: {ahead} conversations are ahead of yours. Your message is kept, and I'll answer it "
    "here when its turn comes."
)
MODEL_AWAY = "I can't reach the model at the moment. Your message is kept, and will be answered."
START_TROUBLE = "I'm having trouble starting. Your message is kept, and I'll try again shortly."
DAILY_BUDGET = "Today's budget is spent. Your message is kept; I'll answer it after midnight (UTC)."
SENDER_BUDGET = (
    "Your budget for today is spent. Your message is kept; I'll answer it after midnight (UTC)."
)
CHANNEL_BUDGET = (
    "This channel's budget for today is spent. Your message is kept; I'll answer it after midnight "
    "(UTC)."
)
CONNECTOR_BUDGET = (
    "This workspace's budget for today is spent. Your message is kept; I'll answer it after "
    "midnight (UTC)."
)
PUBLIC_BUDGET = (
    "Today's budget for guests is spent. Your message is kept; I'll answer it after midnight (UTC)."
)
TURN_BUDGET = "I stopped: this answer reached its budget. Ask again in smaller steps if you like."
CONVERSATION_BUDGET = (
    "I stopped: this conversation's budget is spent. Go on in a new one, or ask the people who run "
    "me to raise it."
)
OUTGROWN = (
    "I stopped: this conversation's files take up more room on the disk than they may. Tell me "
    "what to delete, or go on in a new conversation."
)
OFFER = "An operator can add ${dollars:.2f} to it here."
RAISED = "{who} has added ${dollars:.2f} to this budget."
NOT_RAISED = "{who} leaves this budget as it is."
NEAR_BUDGET = "{percent} % of this conversation's budget is spent."
TOO_MANY_STEPS = "I stopped after {steps} steps. Write again if I should go on."
STOPPED = "Stopped."
GAVE_UP = (
    "I couldn't finish this one and have set it aside for the people who run me. "
    "You can go on writing here."
)
LOST = (
    "I was cut off while a tool was at work, and can't tell what it did. "
    "I won't repeat it on my own; please check, and tell me how to go on."
)
LEFT_OUT = (
    "I can't take your message into this thread, as it is held with people of the organisation. "
    "Please start a thread of your own."
)
NO_TEXT = "I've finished, but have nothing to add in words."
LATE = "I only saw your message {late} after you wrote it."

ASKS = "To go on I'd use {tool}, as shown here. An operator has to approve that first."
WAITS = (
    "This still waits for an operator's approval, so I've stopped here. "
    "I'll go on when it is decided."
)
APPROVED = "Approved by {who}."
DENIED = "Denied by {who}."
EXPIRED = "This is no longer to be decided: it has expired."
DECIDED_ALREADY = "This has been decided already, by {who}."
ONLY_OPERATORS = "Only an operator can decide this."
NOT_YOUR_OWN = (
    "You are one of those who asked for this, so another operator has to approve it. "
    "`postroom approvals` on the machine itself can, too."
)
