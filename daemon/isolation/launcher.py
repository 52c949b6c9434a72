"""The program that the SDK starts as its CLI: put up the walls that a plan names, become the CLI.

Standard library only, single-threaded: run as `python -I -S launcher.pyc PLAN ARGUMENT...` in front
of every start. The plan's form is written by `plan.py`. Whatever goes wrong ends it with 78 and one
line on stderr: there is no start with fewer walls than planned.

With namespaces it runs twice. Outside it leaves `relay.py` behind and becomes bubblewrap, which
runs it again within, by a plan of its own, and there it becomes the CLI.
"""

from __future__ import annotations

import _socket  # `socket` itself takes as long as half a start of Python (measured)
import ctypes
import os
import resource
import struct
import sys

Plan = dict[str, list[str]]

EX_CONFIG = 78

# linux/prctl.h, linux/capability.h
PR_SET_PDEATHSIG, PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 23, 24, 38
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
PR_SET_CHILD_SUBREAPER, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 36, 47, 4
CAPABILITY_VERSION_3 = 0x20080522
SIGKILL, SIGTERM, SIG_IGN = 9, 15, 1

# linux/landlock.h; these numbers are the same on every architecture.
LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
RULE_PATH_BENEATH, RULE_NET_PORT = 1, 2
S_IFMT, S_IFDIR, S_IFLNK = 0o170000, 0o040000, 0o120000

CHANNEL = 12
"""The descriptor by which the launcher within hands its listeners to the one outside."""

MARK = "POSTROOM_PROCESS"

LIBC = ctypes.CDLL(None, use_errno=True)


def main(arguments: list[str]) -> None:
    """Do all of it and become the CLI; returns only by raising."""
    plan = read_plan(arguments[0])
    if "listen" in plan:
        hand_out_listeners(plan["listen"])
    os.closerange(3, 1 << 20)  # Landlock does not touch what is open already
    lead_a_session()
    follow_parent(plan)
    if "pid_file" in plan:
        record(one(plan, "pid_file"), *plan.get("user", ()))
    restore_defaults()
    for limit in plan.get("limit", ()):
        lower_limit(limit)
    if "relay" in plan:
        refuse_links(plan["own"])
        plan = leave_relay(plan)
    for file in plan.get("hand", ()):
        open_as(*file.split(" ", 1))  # before a change of users, who may not read it
    if "drop_privileges" in plan:
        give_up_privileges(plan)
    environment = clean_environment(plan)
    if "relay" not in plan:
        put_up_walls(plan)
    command = plan["command"]
    os.execve(command[0], [*command, *arguments[1:]], environment)  # noqa: S606  # no shell is the point


def read_plan(path: str) -> Plan:
    """Pairs of a word and a value, each ended by a NUL; a word may come several times."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123  # start cost
        fields = file.read().split("\0")
    plan: Plan = {}
    for word, value in zip(fields[:-1:2], fields[1::2], strict=True):
        plan.setdefault(word, []).append(value)
    return plan


def one(plan: Plan, word: str) -> str:
    (value,) = plan[word]
    return value


def prctl(option: int, *arguments: int) -> int:
    values = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]]
    result: int = LIBC.prctl(option, *values)
    return result if result >= 0 else fail(f"prctl {option}")


def fail(what: str) -> int:
    number = ctypes.get_errno()
    raise OSError(number, f"{what}: {os.strerror(number)}")


def syscall(number: int, *arguments: int | bytes | None) -> int:
    values = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result: int = LIBC.syscall(ctypes.c_long(number), *values)
    return result if result >= 0 else fail(f"system call {number}")


def lead_a_session() -> None:
    """Own session and process group; orphans below us become our children, so they stay found."""
    if os.getsid(0) != os.getpid():
        os.setsid()
    prctl(PR_SET_CHILD_SUBREAPER, 1)  # kept across execve, not inherited by children


def follow_parent(plan: Plan) -> None:
    """SIGTERM when the daemon's spawning thread ends: KILL would leave the CLI's tools behind. Not
    so in namespaces of its own, where all ends with their first process.
    """
    prctl(PR_SET_PDEATHSIG, SIGKILL if "relay" in plan else SIGTERM)
    if os.getppid() != int(one(plan, "parent")):  # it ended before the line above
        raise RuntimeError("the daemon that planned this start is gone")


def start_time() -> str:
    """Field 22 of proc(5) stat: clock ticks since boot. It stays the same across execve."""
    with open("/proc/self/stat", encoding="ascii", errors="replace") as file:  # noqa: PTH123
        return file.read().rpartition(")")[2].split()[19]


def record(path: str, user: str = "0") -> None:
    """Who this is, in a file, and in the environment of all that comes of it."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:  # noqa: PTH123
        boot = file.read().strip()
    fresh = f"{path}.new"
    with open(fresh, "w", encoding="ascii") as file:  # noqa: PTH123
        file.write(f"{os.getpid()} {start_time()} {boot} {user}\n")
    os.rename(fresh, path)  # noqa: PTH104  # a reader sees all of it or none
    os.environ[MARK] = f"{os.getpid()}:{start_time()}"


def lower_limit(limit: str) -> None:
    """`NAME VALUE`, soft and hard; a hard limit that is lower already stays."""
    name, value = limit.split()
    number: int = getattr(resource, f"RLIMIT_{name}")
    wanted, hard = int(value), resource.getrlimit(number)[1]
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(number, (wanted, wanted))


def give_up_privileges(plan: Plan) -> None:
    drop_bounding_set()  # takes a capability that a change of users takes away
    if "user" in plan:
        become(int(one(plan, "user")), int(one(plan, "group")))
        follow_parent(plan)  # which that change forgot
    drop_capabilities()
    prctl(PR_SET_NO_NEW_PRIVS, 1)  # Landlock and seccomp both demand it


def drop_bounding_set() -> None:
    """Without CAP_SETPCAP it stays; no_new_privs then keeps root from gaining its permitted set
    back at execve (security/commoncap.c).
    """
    for capability in range(64):
        present = LIBC.prctl(PR_CAPBSET_READ, capability, 0, 0, 0)
        if present < 0:
            break
        if present:
            LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def become(user: int, group: int) -> None:
    """Groups first: without the user's rights they could not be changed any more."""
    os.setgroups([group])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def drop_capabilities() -> None:
    """All sets to nothing."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    header = struct.pack("Ii", CAPABILITY_VERSION_3, 0)
    if LIBC.capset(header, bytes(24)):
        fail("capset")


def restore_defaults() -> None:
    """Python ignores SIGPIPE and SIGXFSZ, the daemon may ignore more; execve keeps that."""
    for number in range(1, 32):
        LIBC.signal(number, None)  # KILL and STOP refuse, harmlessly
    os.umask(0o077)


def clean_environment(plan: Plan) -> dict[str, str]:
    """The plan's variables, and of ours only the names it keeps. Nothing else survives."""
    kept = (MARK, *plan.get("keep", ()))
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    return environment | dict(pair.split("=", 1) for pair in plan.get("env", ()))


def leave_relay(plan: Plan) -> Plan:
    """Go on in a child. This process stays as its relay, behind walls that leave a connection to
    the plan's ports and nothing else. Returns the plan with the relay as the parent to follow.
    """
    ours, theirs = _socket.socketpair()
    # Those within are ended one by one. The relay and bubblewrap go with them: by a SIGTERM of
    # their own they would take all down at once. Within restore_defaults takes this back.
    LIBC.signal(SIGTERM, ctypes.c_void_p(SIG_IGN))
    relay, child = os.getpid(), os.fork()
    if not child:
        os.dup2(theirs.fileno(), CHANNEL)
        plan = {**plan, "parent": [str(relay)]}
        follow_parent(plan)
        return plan
    theirs.close()
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):  # the CLI's alone
        os.dup2(nothing, number)
    sys.path.insert(0, sys.argv[0].rpartition("/")[0])
    carry = __import__("relay").carry  # while this user may read it
    give_up_privileges(plan)
    restrict_with_landlock(plan)
    filter_system_calls(bytes.fromhex(one(plan, "filter")))
    os.dup2(nothing, 2)  # after the last that can fail
    os.close(nothing)
    os._exit(carry(ours.detach(), [int(port) for port in plan.get("port", ())], child))


def refuse_links(paths: list[str]) -> None:
    """Bubblewrap would show, in the place of a link that an agent left, what it leads to."""
    for path in paths:
        if os.lstat(path).st_mode & S_IFMT == S_IFLNK:
            raise OSError(f"{path} is a link")


def open_as(number: str, path: str) -> None:
    """Open a file for what is executed next, by the number that its arguments name it by."""
    descriptor = os.open(path, os.O_RDONLY)
    os.dup2(descriptor, int(number))
    os.close(descriptor)


def hand_out_listeners(ports: list[str]) -> None:
    """Listen on the loopback of this network namespace, and let the relay outside have it."""
    listeners = [_socket.socket(_socket.AF_INET, _socket.SOCK_STREAM) for _ in ports]
    for listener, port in zip(listeners, ports, strict=True):
        listener.bind(("127.0.0.1", int(port)))
        listener.listen(64)
    numbers = struct.pack(f"{len(ports)}i", *(listener.fileno() for listener in listeners))
    channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, CHANNEL)
    channel.sendmsg([b"."], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, numbers)])


def put_up_walls(plan: Plan) -> None:
    if "ruleset" in plan:
        restrict_with_landlock(plan)
    os.chdir(one(plan, "workdir"))
    if "filter" in plan:
        filter_system_calls(bytes.fromhex(one(plan, "filter")))  # last: it forbids what we did here


def restrict_with_landlock(plan: Plan) -> None:
    """`path` and `optional` are `RIGHTS PATH` (an optional one may be missing); `port` a number."""
    attributes = bytes.fromhex(one(plan, "ruleset"))
    rules = syscall(LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)
    on_plain_files = int(one(plan, "file_rights"))
    for rule in plan.get("path", ()):
        # The agent can write beside its directories' contents: never follow a link it left.
        allow_path(rules, rule, on_plain_files, os.O_NOFOLLOW)
    for rule in plan.get("optional", ()):
        try:
            allow_path(rules, rule, on_plain_files, 0)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue  # less is granted, never more
    for port in plan.get("port", ()):
        may_connect = 2
        syscall(
            LANDLOCK_ADD_RULE, rules, RULE_NET_PORT, struct.pack("QQ", may_connect, int(port)), 0
        )
    syscall(LANDLOCK_RESTRICT_SELF, rules, 0)
    os.close(rules)


def allow_path(rules: int, rule: str, on_plain_files: int, flags: int) -> None:
    rights, path = rule.split(" ", 1)
    allowed = int(rights)
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC | flags)
    kind = os.fstat(descriptor).st_mode & S_IFMT
    if kind == S_IFLNK:
        raise OSError(f"{path} is a link")
    if kind != S_IFDIR:
        allowed &= on_plain_files
    syscall(LANDLOCK_ADD_RULE, rules, RULE_PATH_BENEATH, struct.pack("=Qi", allowed, descriptor), 0)
    os.close(descriptor)


def filter_system_calls(program: bytes) -> None:
    """`program` is an array of struct sock_filter (linux/filter.h), 8 bytes each."""
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    if LIBC.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0):
        fail("seccomp")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BaseException as error:  # noqa: BLE001  # the boundary: fail closed, in one line
        sys.stderr.write(f"postroom launcher: {type(error).__name__}: {error}\n")
        sys.stderr.flush()
        os._exit(EX_CONFIG)
