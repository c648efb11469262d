"""The last step before a stranger's code: gives up what the process must not have, then becomes the worker.

Runs *inside* the sandbox, as a file by itself, so it imports the standard library only::

    python -I confine.py '{"rlimits": {...}, "uid": 1234567, "seccomp": true, ...}' COMMAND ARGUMENTS...

In order: limits of resources, Landlock, another user, no new privileges, the filter of system calls, ``execve``. What
it sets survives all of it and cannot be taken back. If a step fails, the process ends with code 97 and one line.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import struct
import sys
from typing import Any

FAILED = 97
"""The exit code of a process that could not be confined."""

_SYSCALL_LANDLOCK = {"create_ruleset": 444, "add_rule": 445, "restrict_self": 446}
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 22, 24, 38
_SIGKILL = 9

# The numbers of the system calls that a bandit has no use for, by machine. What is there and on the list answers
# EPERM (ENOSYS for clone3, so that the C library falls back to clone, whose flags can be looked at).
_CALLS: dict[str, dict[str, int]] = {
    "x86_64": {
        "shmget": 29, "shmat": 30, "socket": 41, "fork": 57, "vfork": 58, "semget": 64, "msgget": 68, "ptrace": 101,
        "pivot_root": 155, "chroot": 161, "mount": 165, "umount2": 166, "swapon": 167, "reboot": 169,
        "init_module": 175, "delete_module": 176, "mq_open": 240, "add_key": 248, "request_key": 249, "keyctl": 250,
        "unshare": 272, "vmsplice": 278, "perf_event_open": 298, "setpriority": 141, "sched_setparam": 142,
        "sched_setscheduler": 144, "sched_setaffinity": 203, "ioprio_set": 251, "migrate_pages": 256,
        "move_pages": 279, "sched_setattr": 314, "fanotify_init": 300, "name_to_handle_at": 303,
        "open_by_handle_at": 304, "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312,
        "finit_module": 313, "memfd_create": 319, "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323,
        "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428, "move_mount": 429,
        "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_open": 434, "pidfd_getfd": 438,
        "process_madvise": 440, "mount_setattr": 442, "memfd_secret": 447, "process_mrelease": 448,
    },
    "aarch64": {
        "umount2": 39, "mount": 40, "pivot_root": 41, "chroot": 51, "vmsplice": 75, "unshare": 97,
        "init_module": 105, "delete_module": 106, "ptrace": 117, "reboot": 142, "mq_open": 180, "msgget": 186,
        "semget": 190, "shmget": 194, "shmat": 196, "socket": 198, "add_key": 217, "request_key": 218, "keyctl": 219,
        "swapon": 224, "perf_event_open": 241, "setpriority": 140, "sched_setparam": 118,
        "sched_setscheduler": 119, "sched_setaffinity": 122, "ioprio_set": 30, "migrate_pages": 238,
        "move_pages": 239, "sched_setattr": 274, "fanotify_init": 262, "name_to_handle_at": 264,
        "open_by_handle_at": 265, "setns": 268, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272,
        "finit_module": 273, "memfd_create": 279, "bpf": 280, "userfaultfd": 282, "kexec_file_load": 294,
        "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428, "move_mount": 429,
        "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_open": 434, "pidfd_getfd": 438,
        "process_madvise": 440, "mount_setattr": 442, "memfd_secret": 447, "process_mrelease": 448,
    },
}  # fmt: skip
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435
_SIGNALS = {"x86_64": (62, 234), "aarch64": (129, 131)}  # kill, tgkill: the own process only
_PRLIMIT = {"x86_64": 302, "aarch64": 261}
_OTHER_SIGNALS = {"x86_64": (129, 200, 297), "aarch64": (130, 138, 240)}  # rt_sigqueueinfo, tkill, rt_tgsigqueueinfo
_PIDFD_SEND_SIGNAL = 424
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000
_CLONE_THREAD = 0x00010000
_EPERM, _ENOSYS = 1, 38

MACHINES = tuple(_CALLS)
"""Where the filter of system calls can be built."""


def filter_program(machine: str, pid: int) -> bytes:
    """The filter as classic BPF: refuses the calls listed above, new processes, and signals to others than ``pid``.

    Args:
        machine: As ``platform.machine()`` has it; one of :data:`MACHINES`.
        pid: The process that the filter is for.
    """
    load, equal, at_least, any_bit, answer = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, kill = 0x7FFF0000, 0x80000000
    refuse = 0x00050000
    steps: list[tuple[int, int, int, int]] = [
        (load, 0, 0, 4),  # the architecture
        (equal, 1, 0, _AUDIT_ARCH[machine]),
        (answer, 0, 0, kill),
        (load, 0, 0, 0),  # the call
    ]
    if machine == "x86_64":
        steps += [(at_least, 0, 1, _X32), (answer, 0, 0, kill)]
    refused = (*_CALLS[machine].values(), *_OTHER_SIGNALS[machine], _PIDFD_SEND_SIGNAL)
    for number in sorted(refused):
        steps += [(equal, 0, 1, number), (answer, 0, 0, refuse | _EPERM)]
    steps += [(equal, 0, 1, _CLONE3), (answer, 0, 0, refuse | _ENOSYS)]
    # clone: its flags must say that it makes a thread
    steps += [(equal, 0, 4, _CLONE[machine]), (load, 0, 0, 16), (any_bit, 1, 0, _CLONE_THREAD)]
    steps += [(answer, 0, 0, refuse | _EPERM), (answer, 0, 0, allow)]
    for number, itself in (*((number, pid) for number in _SIGNALS[machine]), (_PRLIMIT[machine], 0)):
        steps += [(equal, 0, 5, number), (load, 0, 0, 16), (equal, 2, 0, pid), (equal, 1, 0, itself)]
        steps += [(answer, 0, 0, refuse | _EPERM), (answer, 0, 0, allow)]
    steps.append((answer, 0, 0, allow))
    return b"".join(struct.pack("=HBBI", code, yes, no, value) for code, yes, no, value in steps)


def _call(libc: Any, what: str, result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def _set_filter(libc: Any) -> None:
    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    program = filter_program(platform.machine(), os.getpid())
    buffer = ctypes.create_string_buffer(program, len(program))
    pointer = Program(len(program) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    _call(libc, "seccomp", libc.prctl(_PR_SET_SECCOMP, 2, ctypes.byref(pointer), 0, 0))


def landlock_version(libc: Any) -> int:
    """The version of Landlock that the kernel has; 0 for none."""
    return max(0, int(libc.syscall(_SYSCALL_LANDLOCK["create_ruleset"], None, ctypes.c_size_t(0), 1)))


def _set_landlock(libc: Any, readable: list[str]) -> None:
    """Leaves read access below ``readable``, and access to nothing else: no write, no network, no abstract socket."""
    version = landlock_version(libc)
    if version < 4:
        raise OSError(f"Landlock version {version} is too old: version 4 (Linux 6.7) or later is needed")
    files = (1 << (16 if version >= 5 else 15)) - 1
    attributes = struct.pack("=QQQ", files, 0b11, 0b11)[: 24 if version >= 6 else 16]
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    make = _SYSCALL_LANDLOCK["create_ruleset"]
    ruleset = _call(libc, "landlock", libc.syscall(make, buffer, ctypes.c_size_t(len(attributes)), 0))
    execute, read_file, read_folder = 1 << 0, 1 << 2, 1 << 3
    for path in readable:
        if not os.path.exists(path):
            continue
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        allowed = execute | read_file | (read_folder if os.path.isdir(path) else 0)
        if path.startswith("/dev/"):
            allowed = read_file | 1 << 1  # /dev/null may be written to
        rule = ctypes.create_string_buffer(struct.pack("=Qi", allowed, descriptor), 12)
        add = _SYSCALL_LANDLOCK["add_rule"]
        _call(libc, f"landlock {path}", libc.syscall(add, ruleset, 1, rule, 0))
        os.close(descriptor)
    _call(libc, "no_new_privs", libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _call(libc, "landlock", libc.syscall(_SYSCALL_LANDLOCK["restrict_self"], ruleset, 0))
    os.close(ruleset)


def _drop_capabilities(libc: Any) -> None:
    """Leaves a root user without any of root's powers, now and after ``execve``."""
    for capability in range(64):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # the kernel has fewer than 64, and says no to the others
    header, none = struct.pack("=Ii", 0x20080522, 0), struct.pack("=6I", 0, 0, 0, 0, 0, 0)
    _call(libc, "capset", libc.capset(ctypes.create_string_buffer(header), ctypes.create_string_buffer(none)))


def confine(rules: dict[str, Any]) -> None:
    """Takes away what ``rules`` name; see the module."""
    libc = ctypes.CDLL(None, use_errno=True)
    for name, value in rules["rlimits"].items():
        hard = value + 2 if name == "RLIMIT_CPU" else value  # the first signal can be told apart from a kill
        resource.setrlimit(getattr(resource, name), (value, hard))
    if rules["die_with"]:
        _call(libc, "pdeathsig", libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0))
        if os.getppid() != rules["die_with"]:
            raise OSError("the evaluator is gone")
    if rules["landlock"] is not None:
        _set_landlock(libc, rules["landlock"])
    if rules["drop_capabilities"]:
        _drop_capabilities(libc)
    if rules["uid"]:
        os.setgroups([])
        os.setresgid(rules["uid"], rules["uid"], rules["uid"])
        os.setresuid(rules["uid"], rules["uid"], rules["uid"])
    _call(libc, "no_new_privs", libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    if rules["seccomp"]:
        _set_filter(libc)


def main() -> None:
    """Confines this process and becomes the command."""
    try:
        confine(json.loads(sys.argv[1]))
        os.execve(sys.argv[2], sys.argv[2:], dict(os.environ))
    except Exception as error:
        print(f"confine: {error}", file=sys.stderr, flush=True)
        os._exit(FAILED)


if __name__ == "__main__":
    main()
