"""What a transcript is taken to say, also when it is torn, hostile or not what it seems."""

from __future__ import annotations

import json
import os
import stat
import tempfile
import uuid
from pathlib import Path
from typing import Any

import pytest

from daemon.agents import transcript
from daemon.agents.transcript import TranscriptFile, read_fate
from daemon.agents.workspaces import make_workspace
from daemon.ports import PromptFate

OURS, OTHER = str(uuid.uuid4()), str(uuid.uuid4())
ABSENT, UNANSWERED = PromptFate(present=False), PromptFate(present=True)

Entry = dict[str, Any]


def prompt(uid: str = OURS) -> Entry:
    return {"type": "user", "uuid": uid, "message": {"role": "user", "content": "hello"}}


def said(*texts: str, stop: str | None = "end_turn", id_: str = "msg_1", **more: Any) -> Entry:
    content = [{"type": "text", "text": text} for text in texts]
    message = {"id": id_, "model": "claude", "stop_reason": stop, "content": content}
    return {"type": "assistant", "uuid": str(uuid.uuid4()), "message": message, **more}


def synthetic(text: str, **more: Any) -> Entry:
    entry = said(text, stop="stop_sequence", **more)
    entry["message"]["model"] = "<synthetic>"
    return entry


def call(id_: str, name: str = "Bash") -> Entry:
    entry = said(stop="tool_use", id_=f"msg_{id_}")
    entry["message"]["content"] = [{"type": "tool_use", "id": id_, "name": name, "input": {}}]
    return entry


def result(id_: str, text: str = "done", *, is_error: bool = False) -> Entry:
    block: Entry = {"type": "tool_result", "tool_use_id": id_, "content": text}
    if is_error:
        block["is_error"] = True
    return {"type": "user", "uuid": str(uuid.uuid4()), "message": {"content": [block]}}


NOTE: Entry = {
    "type": "user",
    "uuid": str(uuid.uuid4()),
    "message": {"content": [{"type": "text", "text": "[Request interrupted by user]"}]},
}
NOISE: list[Entry] = [
    {"type": "queue-operation", "operation": "enqueue", "content": "hello"},
    {"type": "attachment", "uuid": "a", "attachment": {"type": "environment"}},
    {"type": "system", "subtype": "api_error", "level": "error"},
    {"type": "last-prompt", "lastPrompt": OURS},
]


def fate(*entries: Entry | bytes, uid: str = OURS) -> PromptFate:
    lines = [e if isinstance(e, bytes) else json.dumps(e).encode() + b"\n" for e in entries]
    with tempfile.TemporaryFile() as file:
        file.write(b"".join(lines))
        file.seek(0)
        return read_fate(file, uid)


# --- what it says ---------------------------------------------------------------------------------


def test_a_prompt_that_is_not_there_is_absent() -> None:
    assert fate() == ABSENT
    assert fate(*NOISE, prompt(OTHER), said("for another")) == ABSENT


def test_an_answered_prompt_gives_its_text() -> None:
    assert fate(*NOISE, prompt(), *NOISE, said("hello"), *NOISE).answer == "hello"


def test_an_answer_in_several_blocks_is_joined_and_earlier_remarks_are_left_out() -> None:
    told = fate(
        prompt(),
        said("Let me look.", stop=None, id_="msg_0"),
        call("t1"),
        result("t1"),
        said("The answer ", id_="msg_2", stop=None),
        said("is 42.", id_="msg_2"),
    )
    assert told.answer == "The answer is 42."
    assert told.tools_done == {"t1"}
    assert told.tools_open == ()


def test_an_answer_is_not_taken_from_the_prompt_behind_it() -> None:
    assert fate(prompt(), prompt(OTHER), said("for the other")) == UNANSWERED
    assert fate(prompt(), said("ours"), prompt(OTHER), said("theirs")).answer == "ours"


@pytest.mark.parametrize(
    "entry",
    [
        said("half", stop=None),
        said("cut", stop="max_tokens"),
        said("API Error: 529", isApiErrorMessage=True),
        synthetic("API Error: 403"),
        said("No response requested."),
        said("of a helper", isSidechain=True),
        NOTE,
    ],
)
def test_what_is_no_answer_is_not_taken_for_one(entry: Entry) -> None:
    assert fate(prompt(), entry) == UNANSWERED


def test_a_tool_without_a_result_is_open() -> None:
    told = fate(prompt(), call("t1", "Bash"), result("t1"), call("t2", "WebSend"))
    assert (told.tools_done, told.tools_open) == (frozenset({"t1"}), ("WebSend",))


def test_a_tool_that_failed_has_ended_and_one_that_was_cut_off_has_not() -> None:
    failed = fate(prompt(), call("t1"), result("t1", "exit 1", is_error=True))
    assert (failed.tools_done, failed.tools_open) == (frozenset(), ())
    cut = fate(prompt(), call("t1"), result("t1", "[Tool call interrupted]", is_error=True))
    assert (cut.tools_done, cut.tools_open) == (frozenset(), ("Bash",))


def test_what_the_model_believes_done_includes_what_it_did_before_this_prompt() -> None:
    earlier = (prompt(OTHER), call("t1"), result("t1"), call("t2"), result("t2", is_error=True))
    assert fate(*earlier) == PromptFate(present=False, tools_done=frozenset({"t1"}))
    told = fate(*earlier, prompt(), call("t3"), result("t3"))
    assert told == PromptFate(present=True, tools_done=frozenset({"t1", "t3"}))


# --- torn and hostile -----------------------------------------------------------------------------


def test_a_torn_last_line_hides_nothing_before_it() -> None:
    assert fate(prompt(), said("hello"), b'{"type": "assistant", "mess').answer == "hello"


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe\n",
        b"null\n",
        b"[1]\n",
        b"[" * 100_000 + b"\n",
        b'{"type": "assistant", "message": "text"}\n',
        b'{"type": "assistant", "message": {"content": [1, {"type": "text", "text": 5}]}}\n',
        b'{"type": "user", "message": {"content": [{"type": "tool_result", "tool_use_id": 7}]}}\n',
    ],
)
def test_a_line_that_makes_no_sense_is_passed_over(line: bytes) -> None:
    assert fate(line, prompt(), line, said("hello")).answer == "hello"


def test_a_lone_surrogate_does_not_get_through() -> None:
    answer = fate(prompt(), said("a\ud800b")).answer
    assert answer == "a?b"


def test_of_a_huge_transcript_the_end_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcript, "MAX_READ_BYTES", 4096)
    filler = [said("x" * 200, id_=f"m{number}") for number in range(50)]
    assert fate(prompt(), *filler) == ABSENT
    assert fate(*filler, prompt(), said("hello")).answer == "hello"


# --- the file -------------------------------------------------------------------------------------


def placed(tmp_path: Path) -> tuple[TranscriptFile, Path]:
    """A workspace's transcript and its path, whose folder is there."""
    workspace = make_workspace(tmp_path)
    path = workspace.config / "projects" / "-work" / f"{workspace.session}.jsonl"
    path.parent.mkdir(parents=True)
    return TranscriptFile(workspace, "-work"), path


def written(path: Path) -> Path:
    path.write_bytes(b"".join(json.dumps(e).encode() + b"\n" for e in (prompt(), said("hello"))))
    return path


def test_a_transcript_is_found_read_and_synced(tmp_path: Path) -> None:
    file, path = placed(tmp_path)
    assert not file.exists()
    assert file.fate(OURS) == ABSENT
    file.sync()
    written(path)
    assert file.exists()
    assert file.fate(OURS).answer == "hello"
    file.sync()


def test_a_directory_is_synced_again_only_when_its_transcript_is_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bool] = []  # whether it was a directory

    def fsync(descriptor: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))

    monkeypatch.setattr(os, "fsync", fsync)
    file, path = placed(tmp_path)
    written(path)
    named = file.sync()
    assert synced == [False, True]
    assert file.sync(named) == named
    assert synced == [False, True, False]
    written(path.with_suffix(".new")).replace(path)
    assert file.sync(named) != named
    assert synced == [False, True, False, False, True]


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    file, path = placed(tmp_path)
    path.symlink_to(written(tmp_path / "of-another.jsonl"))
    assert not file.exists()
    with pytest.raises(OSError, match="symbolic link"):
        file.fate(OURS)


def test_a_linked_folder_on_the_way_is_not_followed(tmp_path: Path) -> None:
    file, path = placed(tmp_path)
    other, others_path = placed(tmp_path)
    written(others_path.with_name(path.name))
    path.parent.rmdir()
    path.parent.symlink_to(others_path.parent)
    assert not file.exists()
    with pytest.raises(OSError, match=r"Not a directory|symbolic link"):
        file.fate(OURS)
    assert not other.exists()


def test_a_pipe_in_its_place_blocks_nobody(tmp_path: Path) -> None:
    file, path = placed(tmp_path)
    os.mkfifo(path)
    assert not file.exists()
    with pytest.raises(OSError, match="no regular file"):
        file.fate(OURS)


def test_one_that_is_set_aside_is_kept_and_no_longer_found(tmp_path: Path) -> None:
    file, path = placed(tmp_path)
    written(path)
    file.set_aside()
    assert not file.exists()
    assert path.with_name(f"{path.name}.unusable").exists()
    file.set_aside()


def test_one_of_a_restored_backup_is_found_though_the_path_is_another(tmp_path: Path) -> None:
    file, path = placed(tmp_path)
    written(path)
    (path.parent.parent / "-unrelated").mkdir()
    moved = TranscriptFile(file.workspace, "-elsewhere-work")
    assert moved.fate(OURS).answer == "hello"
    assert moved.exists()
    assert not path.parent.exists(), "the CLI finds it by the new name"


def test_another_folder_that_is_a_link_is_not_taken_for_it(tmp_path: Path) -> None:
    file, path = placed(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    written(outside / path.name)
    path.parent.rmdir()
    (path.parent.parent / "-linked").symlink_to(outside)
    moved = TranscriptFile(file.workspace, "-elsewhere-work")
    assert moved.fate(OURS) == ABSENT
    assert not moved.exists()
