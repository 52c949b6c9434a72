"""Asking before a tool is used: a hook that the CLI waits for, before each call of such a tool.

A hook, and not the SDK's `can_use_tool`: the CLI lets some calls through by itself without that, as
a shell command that only reads, and none without a hook. What the hook does not allow is denied, as
such a tool is on no allow-list.
"""

from __future__ import annotations

import structlog
from claude_agent_sdk import (
    HookContext,
    HookInput,
    HookJSONOutput,
    HookMatcher,
    PreToolUseHookSpecificOutput,
)
from claude_agent_sdk.types import HookEvent, SyncHookJSONOutput

from daemon.model import Profile
from daemon.ports import Permission, ToolGate

log = structlog.get_logger()

HOOK_SECONDS = 300.0  # longer than any gate waits; a call whose hook takes longer does not run
_BROKEN = "This could not be put before a person. Nothing was done."


def asking(profile: Profile, gate: ToolGate) -> dict[HookEvent, list[HookMatcher]]:
    """The hooks of an agent: none where nothing has to be asked."""
    if not profile.ask:
        return {}

    async def ask(call: HookInput, _id: str | None, _context: HookContext) -> HookJSONOutput:
        if call["hook_event_name"] != "PreToolUse":
            return _told(Permission(granted=False, reason=_BROKEN))
        try:
            return _told(await gate.ask(call["tool_name"], call["tool_input"]))
        except Exception:  # the boundary to the model: no exception's text crosses it
            log.exception("approval.broke", tool=call["tool_name"])
            return _told(Permission(granted=False, reason=_BROKEN))

    matcher = "|".join(profile.ask)
    hook = HookMatcher(matcher, hooks=[ask], timeout=HOOK_SECONDS, on_failure="block")
    return {"PreToolUse": [hook]}


def _told(permission: Permission) -> SyncHookJSONOutput:
    output = PreToolUseHookSpecificOutput(
        hookEventName="PreToolUse",
        permissionDecision="allow" if permission.granted else "deny",
        permissionDecisionReason=permission.reason,
    )
    return SyncHookJSONOutput(hookSpecificOutput=output)
