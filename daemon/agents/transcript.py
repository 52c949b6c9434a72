"""What a session's transcript says of a prompt, and putting it on disk.

The transcript is the CLI's JSONL, one object a line, in a directory where the agent can write too:
it is opened without following a link, read within bounds, believed in nothing but its text. The
shapes are measured with CLI 2.1.330; tests/contract/test_agents.py reads real ones.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from daemon.model import Workspace
from daemon.ports import PromptFate

MAX_READ_BYTES = 256 << 20  # of a longer transcript only the end is read: the prompt is near it
MAX_LINE_BYTES = 64 << 20
MAX_ANSWER_CHARACTERS = 1_000_000

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FINAL_STOPS = frozenset({"end_turn", "stop_sequence"})
_SYNTHETIC = "<synthetic>"  # model of entries that the CLI wrote itself, as for an API error
_RESULT = b'"tool_result"'
_NO_RESPONSE = "No response requested."
# What the CLI writes as the result of a tool that it cut off, or found cut off when it resumed.
_CUT_OFF = ("[Tool call interrupted", "The user doesn't want to proceed with this tool use")


@dataclass(frozen=True, slots=True)
class TranscriptFile:
    """Where a workspace's transcript lies. `project` is the CLI's name for the work directory."""

    workspace: Workspace
    project: str

    @property
    def _folders(self) -> tuple[str, ...]:
        return (self.workspace.config.name, "projects", self.project)

    @property
    def _name(self) -> str:
        return f"{self.workspace.session}.jsonl"

    def exists(self) -> bool:
        """Whether there is something to resume from."""
        with contextlib.suppress(OSError), self._open() as file:
            return os.fstat(file.fileno()).st_size > 0
        return False

    def fate(self, uuid: str) -> PromptFate:
        """What became of the prompt with this uuid. Absent file: absent prompt. Raises OSError
        where the transcript is there and cannot be read.
        """
        try:
            with self._open() as file:
                return read_fate(file, uuid)
        except FileNotFoundError:
            return PromptFate(present=False)

    def sync(self, named: int | None = None) -> int | None:
        """Fsync of the file and of its directory: the CLI does neither. Returns the file's inode;
        given back as `named`, the directory is left alone while that is still the file in it, as a
        flush of the disk is what a turn waits for most. Absent is fine, and None.
        """
        try:
            with self._open() as file:
                inode = os.fstat(file.fileno()).st_ino
                os.fsync(file.fileno())
            if inode != named:
                folder = self._open_folder()
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
        except FileNotFoundError:
            return None
        return inode

    def set_aside(self) -> None:
        """Keep an unusable transcript under another name, so that the session can begin anew: the
        CLI refuses a new session where there is a file of its id, even an empty one (measured).
        """
        with contextlib.suppress(FileNotFoundError):
            folder, aside = self._open_folder(), f"{self._name}.unusable"
            try:
                os.replace(self._name, aside, src_dir_fd=folder, dst_dir_fd=folder)
            finally:
                os.close(folder)

    def _open_folder(self) -> int:
        try:
            return open_folder(str(self.workspace.root), self._folders)
        except FileNotFoundError:
            self._bring_here()
            return open_folder(str(self.workspace.root), self._folders)

    def _bring_here(self) -> None:
        """The CLI names a project's folder by the path of its work directory, and a restored backup
        may lie elsewhere: the folder that holds the session takes the name that it has now.
        Raises FileNotFoundError where there is none.
        """
        projects = open_folder(str(self.workspace.root), self._folders[:-1])
        try:
            for name in os.listdir(projects):  # noqa: PTH208 - of a descriptor
                if self._holds_session(name, projects):
                    os.rename(name, self.project, src_dir_fd=projects, dst_dir_fd=projects)
                    return
        finally:
            os.close(projects)
        raise FileNotFoundError(f"{self.workspace.id} has no transcript")

    def _holds_session(self, name: str, projects: int) -> bool:
        try:
            folder = os.open(name, _FOLDER, dir_fd=projects)
        except OSError:
            return False
        try:
            found = os.stat(self._name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        finally:
            os.close(folder)
        return stat.S_ISREG(found.st_mode)

    def _open(self) -> BinaryIO:
        folder = self._open_folder()
        try:
            # A FIFO in its place would block: hence NONBLOCK, which a regular file ignores.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            file = os.fdopen(os.open(self._name, flags, dir_fd=folder), "rb")
        finally:
            os.close(folder)
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise OSError(f"the transcript of {self.workspace.id} is no regular file")
        return file


def open_folder(root: str, folders: tuple[str, ...]) -> int:
    """A descriptor of a folder beneath `root`, each step without following a link. OSError."""
    descriptor = os.open(root, _FOLDER)
    for name in folders:
        try:
            following = os.open(name, _FOLDER, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = following
    return descriptor


def read_fate(file: BinaryIO, uuid: str) -> PromptFate:
    """Read a transcript from its (bounded) end on. Lines that make no sense are skipped, as the
    last one may be torn and any of them may be the agent's.
    """
    found: _Behind | None = None
    done: set[str] = set()
    for line in _lines(file):
        if found is None and uuid.encode() not in line and _RESULT not in line:
            continue
        entry = _parse(line)
        if entry.get("type") == "user" and entry.get("uuid") == uuid and not _aside(entry):
            found = _Behind(done)
        elif found is None:
            done.update(_done(_results(entry)))
        elif not found.take(entry):
            break
    return found.fate() if found is not None else PromptFate(False, tools_done=frozenset(done))


@dataclass(slots=True)
class _Behind:
    """What follows a prompt on the main chain, up to the next prompt."""

    done: set[str]  # and before it: what the model believes done stays so
    names: dict[str, str] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    message: object = None
    texts: list[str] = field(default_factory=list)
    answered: bool = False

    def take(self, entry: dict[str, Any]) -> bool:
        """Take the next entry in. False: it belongs to a later prompt."""
        if _aside(entry):
            return True
        kind = entry.get("type")
        message = entry.get("message")
        if not isinstance(message, dict):
            return True
        if kind == "assistant":
            self._take_assistant(entry, message)
        elif kind == "user":
            results = _results(entry)
            if not results:  # the next prompt, or the note that this one was interrupted
                return False
            self._take_results(results)
        return True

    def fate(self) -> PromptFate:
        text = "".join(self.texts)[:MAX_ANSWER_CHARACTERS]
        # A lone surrogate is legal JSON and no legal text.
        text = text.encode(errors="replace").decode()
        return PromptFate(
            present=True,
            answer=text if self.answered and text.strip() != _NO_RESPONSE else None,
            tools_done=frozenset(self.done),
            tools_open=tuple(name for id_, name in self.names.items() if id_ not in self.ended),
        )

    def _take_assistant(self, entry: dict[str, Any], message: dict[str, Any]) -> None:
        self.answered = False
        if entry.get("isApiErrorMessage") or message.get("model") == _SYNTHETIC:
            return
        if message.get("id") != self.message:  # one message comes as one entry a block
            self.message, self.texts = message.get("id"), []
        blocks = _blocks(message)
        self.texts += [b["text"] for b in blocks if b.get("type") == "text" and _text(b, "text")]
        calls = [b for b in blocks if b.get("type") == "tool_use" and _text(b, "id")]
        self.names |= {b["id"]: str(b.get("name", ""))[:200] for b in calls}
        self.answered = message.get("stop_reason") in _FINAL_STOPS and not calls

    def _take_results(self, results: list[dict[str, Any]]) -> None:
        self.answered, self.message, self.texts = False, None, []
        self.done.update(_done(results))
        for result in results:
            id_ = result.get("tool_use_id")
            if not isinstance(id_, str):
                continue
            if not (result.get("is_error") and _result_text(result).startswith(_CUT_OFF)):
                self.ended.add(id_)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    size = os.fstat(file.fileno()).st_size
    if size > MAX_READ_BYTES:
        file.seek(size - MAX_READ_BYTES)
        file.readline(MAX_LINE_BYTES)  # the rest of a line
    left = MAX_READ_BYTES
    while left > 0 and (line := file.readline(min(left, MAX_LINE_BYTES))):
        left -= len(line)
        yield line


def _parse(line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return entry if isinstance(entry, dict) else {}


def _aside(entry: dict[str, Any]) -> bool:
    """Not of the main chain, or put there by the CLI and no word of anybody."""
    return any(entry.get(name) for name in ("isSidechain", "isMeta", "isCompactSummary"))


def _blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    return [b for b in content if isinstance(b, dict)] if isinstance(content, list) else []


def _results(entry: dict[str, Any]) -> list[dict[str, Any]]:
    message = entry.get("message")
    if entry.get("type") != "user" or _aside(entry) or not isinstance(message, dict):
        return []
    return [b for b in _blocks(message) if b.get("type") == "tool_result"]


def _done(results: list[dict[str, Any]]) -> Iterator[str]:
    """The calls that the model believes to be done."""
    for result in results:
        if _text(result, "tool_use_id") and not result.get("is_error"):
            yield result["tool_use_id"]


def _text(block: dict[str, Any], name: str) -> bool:
    return isinstance(block.get(name), str)


def _result_text(result: dict[str, Any]) -> str:
    content = result.get("content")
    if isinstance(content, list):
        content = next((b.get("text") for b in content if isinstance(b, dict)), "")
    return content if isinstance(content, str) else ""
