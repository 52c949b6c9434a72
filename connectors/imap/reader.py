"""The parsing process: what a hostile mail can slow down or fell is not the daemon.

`python -m connectors.imap.reader`: a path a line on stdin, as JSON; a line of JSON on stdout for
each, after an empty one when it is ready. It ends when stdin does. Started by parsing.py.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from pathlib import Path

from connectors.imap.parse import parse

MEMORY_BYTES = 1 << 30  # of address space: the largest mail that is fetched whole takes a third
GROWN_BYTES = 200 << 20  # resident: above it, a fresh process is cheaper than this one
ALONE_SECONDS = 60  # the daemon has long given a mail up by then: it must be gone


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = sys.stdout.buffer
    answers.write(b"\n")
    answers.flush()
    for line in sys.stdin.buffer:
        signal.alarm(ALONE_SECONDS)
        parsed = parse(Path(json.loads(line)).read_bytes())
        answers.write(json.dumps(parsed.as_json()).encode() + b"\n")
        answers.flush()
        signal.alarm(0)
        if _resident() > GROWN_BYTES:
            return


def _resident() -> int:
    """Bytes, as of now. Not ru_maxrss: that of the process that started this one counts in it."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    main()
