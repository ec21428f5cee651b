"""A program for test_hostile_files.py: read each file that it is given, and say what came of it.

One process for all files, because each import of JAX takes longer than all of them; so the peak of
memory is reset before each.
"""

import json
import sys
import time
from pathlib import Path

import jax.numpy as jnp

import eqx_serialise

opened = []
sys.addaudithook(lambda event, args: opened.append((event, str(args)[:80])) if event in WATCHED else None)
# What only code in a file could want. Compiling and importing happen when a library is first used.
WATCHED = {"os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "pickle.find_class", "socket.connect", "exec"}
READERS = {
    "load": lambda path: eqx_serialise.load(path, [jnp.ones(1)]),
    "trust": lambda path: eqx_serialise.load(path, [jnp.ones(1)], verify=False),
    "lenient": lambda path: eqx_serialise.load(path, [jnp.ones(1)], verify=False, strict=False),
    "inspect": lambda path: repr(eqx_serialise.inspect(path)),
    "verify": eqx_serialise.verify,
}


def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith(("VmHWM", "VmRSS"))}


def outcome(read, path):
    Path("/proc/self/clear_refs").write_text("5")  # The peak starts again from what is in memory now.
    before, start = peak()["VmRSS"], time.monotonic()
    try:
        read(path)
        text, kind = "", "read"
    except Exception as error:
        text, kind = str(error), type(error).__name__
    took = time.monotonic() - start
    return {"kind": kind, "text": text[:2000], "memory": peak()["VmHWM"] - before, "seconds": took}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    warm = folder.parent / "warm"
    eqx_serialise.save(warm, [jnp.ones(1)])
    for read in READERS.values():
        read(warm)
    opened.clear()
    found = {
        path.name: {name: outcome(read, path) for name, read in READERS.items()} for path in sorted(folder.iterdir())
    }
    print(json.dumps({"found": found, "executed": opened}))
