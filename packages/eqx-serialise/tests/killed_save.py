"""A program for test_kill.py: kill a save at each of its system calls, and look at what is there.

It forks, which a process with JAX's threads must not do; so it starts no backend of JAX. The child
is traced by ptrace: it stops before and after each system call, and is killed at the n-th stop.
"""

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np

import eqx_serialise

TRACEME, CONT_TO_SYSCALL, SETOPTIONS = 0, 24, 0x4200
OPTIONS = 1 | 8 | 0x100000  # Mark stops at system calls, trace new threads, kill all if the tracer dies.
ALL_THREADS = 0x40000000
OLD = {"weight": np.zeros(300, np.float32), "rate": 0.5}
NEW = {"weight": np.arange(50000, dtype=np.float32), "bias": np.ones(7), "rate": 0.25}

ptrace = ctypes.CDLL(None, use_errno=True).ptrace
ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
ptrace.restype = ctypes.c_long


def traced_child(path):
    """Return the id of a process that is about to save, or None where processes may not be traced."""
    child = os.fork()
    if child == 0:
        code = 3
        try:
            if ptrace(TRACEME, 0, None, None) == 0:
                os.kill(os.getpid(), signal.SIGSTOP)
                eqx_serialise.save(path, NEW)
                code = 0
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    if not os.WIFSTOPPED(status):
        return None
    ptrace(SETOPTIONS, child, None, OPTIONS)
    return child


def save_until(path, stops):
    """Save and kill after that many stops. Return whether it came to that, None if nothing can be traced."""
    child = traced_child(path)
    if child is None:
        return None
    stopped, signal_to_give = child, 0
    for _ in range(stops):
        while True:
            ptrace(CONT_TO_SYSCALL, stopped, None, signal_to_give)
            stopped, status = os.waitpid(-1, ALL_THREADS)
            if stopped == child and not os.WIFSTOPPED(status):
                assert status == 0, status  # It ended, by itself, without an error.
                return False
            signal_to_give = 0
            if os.WIFSTOPPED(status) and os.WSTOPSIG(status) == signal.SIGTRAP | 0x80:
                break
    os.kill(child, signal.SIGKILL)
    while os.waitpid(-1, ALL_THREADS)[0] != child:
        pass
    return True


def contents(tree, path):
    eqx_serialise.save(path, tree)
    content = path.read_bytes()
    path.unlink()
    return content


def main(folder, with_old):
    path = folder / "model.safetensors"
    old, new = contents(OLD, path), contents(NEW, path)
    found = {"stops": 0, "old": 0, "new": 0, "none": 0, "wrong": [], "left": 0, "unswept": []}
    while True:
        path.unlink(missing_ok=True)
        if with_old:
            path.write_bytes(old)
        killed = save_until(path, found["stops"] + 1)
        if killed is None:
            return {"untraceable": os.strerror(ctypes.get_errno())}
        if not killed:
            return found
        found["stops"] += 1
        there = path.read_bytes() if path.exists() else None
        kind = {old: "old", new: "new", None: "none"}.get(there)
        if kind is None:
            found["wrong"].append(found["stops"])
        else:
            found[kind] += 1
        found["left"] += len(os.listdir(folder)) > (there is not None)
        eqx_serialise.save(path, OLD)
        if os.listdir(folder) != [path.name]:
            found["unswept"].append(found["stops"])


if __name__ == "__main__":
    # A killed writer's umask, lock and threads are its own; the folder is all that is shared.
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2] == "old")))
