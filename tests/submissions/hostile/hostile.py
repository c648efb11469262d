"""A sample submission that does everything it should not. The tests run it; each attempt is also made outside.

``python hostile.py '{"pid": ..., ...}'`` makes every attempt of :data:`ATTEMPTS` in a plain process and prints what
came of each: the positive control of the tests.
"""

import contextlib
import ctypes
import json
import mmap
import os
import pickle
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import msgpack
import numpy as np

from hare_gym import Agent

LIBC = ctypes.CDLL(None, use_errno=True)


def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def read_the_secret(target):
    return open(target["secret"]).read()


def read_the_home(target):
    return [open(os.path.join(target["home"], name)).read() for name in os.listdir(target["home"])]


def read_the_evaluators_environment(target):
    return open(f"/proc/{target['pid']}/environ", "rb").read()


def read_the_evaluators_memory(target):
    with open(f"/proc/{target['pid']}/mem", "rb") as memory:
        memory.seek(target["address"])
        assert memory.read(len(target["canary"])) == target["canary"].encode()


def read_the_evaluators_memory_by_a_call(target):
    size = len(target["canary"])
    buffer = ctypes.create_string_buffer(size)
    here = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), size)
    there = (ctypes.c_void_p * 2)(target["address"], size)
    checked(LIBC.process_vm_readv(target["pid"], ctypes.byref(here), 1, ctypes.byref(there), 1, 0))
    assert buffer.raw == target["canary"].encode()


def signal_the_evaluator(target):
    os.kill(target["pid"], 0)


def change_the_evaluators_limits(target):
    resource.prlimit(target["pid"], resource.RLIMIT_NOFILE, resource.prlimit(target["pid"], resource.RLIMIT_NOFILE))


def connect_to_a_port(target):
    socket.create_connection(("127.0.0.1", target["port"]), timeout=2).close()


def connect_to_a_local_socket(target):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("\0" + target["local"])


def make_a_raw_socket(target):
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()


def fork(target):
    if os.fork() == 0:
        os._exit(0)


def start_a_program(target):
    subprocess.run([sys.executable, "-c", ""], check=True)


def start_500_threads(target):
    enough = threading.Event()
    threads = [threading.Thread(target=enough.wait, daemon=True) for _ in range(500)]
    try:
        for thread in threads:
            thread.start()
    finally:
        enough.set()
        for thread in threads:
            if thread.ident is not None:
                thread.join()


def take_50_gb(target):
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
    with mmap.mmap(-1, 50 << 30, flags=flags) as memory:
        memory[0] = memory[1 << 30] = 1


def take_memory_that_is_a_file(target):
    descriptor = os.memfd_create("memory")
    os.write(descriptor, b"x")
    os.close(descriptor)


def take_shared_memory(target):
    segment = checked(LIBC.shmget(0, 4096, 0o1600))
    checked(LIBC.shmctl(segment, 0, None))


def fill_dev_shm(target):
    path = f"/dev/shm/{target['local']}"
    with open(path, "w") as file:
        file.write("x")
    os.unlink(path)


def write_a_large_file(target):
    path = os.path.join(target["outside"] if target["control"] else "/tmp", "large")
    with open(path, "wb") as file:
        for _ in range(20):
            file.write(bytes(1 << 20))


def fill_the_scratch_folder(target):
    folder = target["outside"] if target["control"] else "/tmp"
    for i in range(10):
        with open(os.path.join(folder, f"part{i}"), "wb") as file:
            file.write(bytes(3 << 20))


def write_outside(target):
    with open(os.path.join(target["outside"], "written"), "w") as file:
        file.write("x")


def write_beside_its_code(target):
    with open(os.path.join(os.path.dirname(__file__), "written"), "w") as file:
        file.write("x")


def make_namespaces_of_its_own(target):
    checked(LIBC.unshare(0x10000000))


def mount(target):
    checked(LIBC.mount(b"none", target["outside"].encode(), b"tmpfs", 0, None))
    checked(LIBC.umount(target["outside"].encode()))


def raise_its_limits(target):
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = resource.RLIM_INFINITY
    assert (soft, hard) == (wanted, wanted) or not resource.setrlimit(resource.RLIMIT_AS, (wanted, wanted))


ATTEMPTS = {
    attempt.__name__.replace("_", " "): attempt
    for attempt in (
        read_the_secret, read_the_home, read_the_evaluators_environment, read_the_evaluators_memory,
        read_the_evaluators_memory_by_a_call, signal_the_evaluator, change_the_evaluators_limits, connect_to_a_port,
        connect_to_a_local_socket, make_a_raw_socket, fork, start_a_program, start_500_threads, take_50_gb,
        take_memory_that_is_a_file, take_shared_memory, fill_dev_shm, write_a_large_file, fill_the_scratch_folder,
        write_outside, write_beside_its_code, mount, make_namespaces_of_its_own, raise_its_limits,
    )
}  # fmt: skip


def attempted(target):
    done = {}
    for name, attempt in ATTEMPTS.items():
        try:
            attempt(target)
            done[name] = "done"
        except BaseException as error:
            done[name] = f"{type(error).__name__}: {error}"
    return done


def wire():
    """The nonce of the question being answered, and the descriptor of the answers: the worker's frames have both."""
    frame = sys._getframe()
    while frame.f_code.co_name != "serve":
        frame = frame.f_back
    return frame.f_locals["nonce"], frame.f_locals["answers"]


def answer(nonce, body, length=None):
    return struct.pack("<IQ", len(body) + 8 if length is None else length, nonce) + body


def sent(data):
    os.write(wire()[1], data)


GOOD = msgpack.packb({"action": 0})


def flood_the_stream():
    _, descriptor = wire()
    while True:
        os.write(descriptor, b"\xff" * 65536)


def answer_early():
    _, descriptor = wire()
    if threading.active_count() == 1:
        threading.Timer(0.05, lambda: os.write(descriptor, answer(5, GOOD))).start()
    time.sleep(0.02)
    return 0


def close_the_pipe():
    os.close(wire()[1])
    time.sleep(60)


def take_memory_bit_by_bit():
    kept = []
    while True:
        kept.append(bytearray(1 << 24))


def print_without_end():
    for _ in range(100):
        print("x" * 50_000)
    return 0


BEHAVIOURS = {
    "loop without end": lambda: [None for _ in iter(int, 1)],
    "sleep through the budget": lambda: time.sleep(0.3) or 0,
    "stop itself": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "flood the stream": flood_the_stream,
    "corrupt the stream": lambda: sent(os.urandom(64)),
    "announce four gigabytes": lambda: sent(answer(wire()[0], b"", 2**32 - 1)),
    "announce an empty frame": lambda: sent(answer(wire()[0], b"", 8)),
    "answer twice": lambda: sent(answer(wire()[0], GOOD)) or 0,
    "answer early": answer_early,
    "answer another question": lambda: sent(answer(wire()[0] ^ 1, GOOD)),
    "close the pipe": close_the_pipe,
    "answer NaN": lambda: float("nan"),
    "answer a float": lambda: 1.0,
    "answer a bool": lambda: True,
    "answer the wrong shape": lambda: np.zeros((3, 3)),
    "answer a huge number": lambda: 2**63,
    "answer no item": lambda: 64,
    "answer 100 MB": lambda: np.zeros(100_000_000, dtype=np.uint8),
    "answer a pickle": lambda: msgpack.ExtType(1, pickle.dumps(os.system)),
    "answer an object": object,
    "exit": lambda: os._exit(3),
    "exit politely": lambda: sys.exit(0),
    "crash": lambda: 1 // 0,
    "end by a segmentation fault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "kill itself": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "take memory bit by bit": take_memory_bit_by_bit,
    "print without end": print_without_end,
    "play along": lambda: 0,
}


class Hostile(Agent):
    """Makes all attempts in ``reset``, or behaves badly from round 3 on."""

    modes = frozenset({"select", "synthesize"})

    def __init__(self, behaviour="play along", target=None):
        self.behaviour, self.target, self.round = behaviour, target, 0

    def reset(self, spec, rng):
        super().reset(spec, rng)
        if self.behaviour == "attempt everything":
            print("ATTEMPTED", json.dumps(attempted({**self.target, "control": False})))
        elif self.behaviour == "remember":
            with contextlib.suppress(OSError):
                os.stat("/tmp/hare-remembered")
                print("REMEMBERED")
            with open("/tmp/hare-remembered", "w") as file:
                file.write(str(rng.integers(1 << 30)))
        elif self.behaviour == "sleep in reset":
            print("ASLEEP", flush=True)
            time.sleep(600)

    def act(self, observation):
        self.round += 1
        if self.round < 3 or self.behaviour not in BEHAVIOURS:
            return 0
        return BEHAVIOURS[self.behaviour]()


if __name__ == "__main__":
    print(json.dumps(attempted({**json.loads(sys.argv[1]), "control": True})))
