"""What stays outside of an agent's namespaces: it carries bytes from listeners within to the same
ports out here, and understands nothing of them.

Standard library only; the launcher runs it from the directory that both lie in. It is the parent
of the namespaces and ends as they do; should it end before, they end with it.
"""

from __future__ import annotations

import contextlib
import os
import socket
from threading import BoundedSemaphore, Thread

EX_CONFIG = 78
CONNECTIONS = 64
"""At once; more wait in the listener's queue. The CLI has a handful."""
PIECE = 1 << 16


def carry(channel: int, ports: list[int], child: int) -> int:
    """Serve the listeners that come through `channel`, one for each port, until `child` ends;
    returns the status to exit with, 78 where they did not come.
    """
    with socket.socket(fileno=channel) as received:
        _, listeners, _, _ = socket.recv_fds(received, 1, len(ports))
    for listener, port in zip(listeners, ports, strict=False):
        Thread(target=_accept, args=(socket.socket(fileno=listener), port), daemon=True).start()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if len(listeners) < len(ports):
        return EX_CONFIG
    return code if code >= 0 else 128 - code


def _accept(listener: socket.socket, port: int) -> None:
    free = BoundedSemaphore(CONNECTIONS)
    try:
        while True:
            free.acquire()
            within, _ = listener.accept()
            Thread(target=_connect, args=(within, port, free), daemon=True).start()
    finally:
        os._exit(EX_CONFIG)  # no agent without a gateway: all within ends with us


def _connect(within: socket.socket, port: int, free: BoundedSemaphore) -> None:
    """One connection, both ways, to its end. A gateway that is not there closes it."""
    try:
        with contextlib.suppress(OSError), within, socket.socket() as without:
            without.connect(("127.0.0.1", port))
            for side in (within, without):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            back = Thread(target=_copy, args=(without, within), daemon=True)
            back.start()
            _copy(within, without)
            back.join()
    finally:
        free.release()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    """Until the source says that it is at its end, which the sink is told; a break is both's."""
    try:
        while piece := source.recv(PIECE):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for side in (source, sink):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
