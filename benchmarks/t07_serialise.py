"""Topic 7: save and load ~1 GB of float32, in 10 big or 10,000 small leaves, the latter also of a multiple of 64 bytes.

Each (contender, operation) runs in its own process so that peak memory is its own.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile

from timing import OPTIONS, report

TOTAL = 1_000_000_000  # divisible by 4 * 10,000


def _shapes(layout):
    n = 10 if layout == "10 big" else 10_000
    size = TOTAL // 4 // n
    # 25,000 float32 are no multiple of 64 bytes, so a safetensors file cannot align them; 24,992 are.
    return [(size - size % 16 if layout == "10000 aligned" else size,)] * n


# ---- what each contender does (run in the child process) ---------------------------


def _tree(layout):
    import jax.numpy as jnp
    import numpy as np

    base = np.random.default_rng(0).random(1 << 20, dtype=np.float32)
    return {f"layer{i:05d}": jnp.asarray(np.resize(base, s) + np.float32(i)) for i, s in enumerate(_shapes(layout))}


def _like(layout):
    import jax
    import jax.numpy as jnp

    return {f"layer{i:05d}": jax.ShapeDtypeStruct(s, jnp.float32) for i, s in enumerate(_shapes(layout))}


def _eqx_like(modname):
    import importlib

    eqx = importlib.import_module(modname)
    return (
        lambda path, tree: eqx.tree_serialise_leaves(path + ".eqx", tree),
        lambda path, like: eqx.tree_deserialise_leaves(path + ".eqx", like),
    )


def _eqx_named(**options):
    import eqx_serialise

    return (
        lambda path, tree: eqx_serialise.save(path + ".safetensors", tree),
        lambda path, like: eqx_serialise.load(path + ".safetensors", like, **options),
    )


def _safetensors():
    from safetensors.flax import load_file, save_file

    return (
        lambda path, tree: save_file(tree, path + ".safetensors"),
        lambda path, like: load_file(path + ".safetensors"),
    )


def _orbax():
    import orbax.checkpoint as ocp

    def save(path, tree):
        with ocp.StandardCheckpointer() as c:
            c.save(path + ".orbax", tree)

    def load(path, like):
        import jax

        dev = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        like = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=dev), like)
        with ocp.StandardCheckpointer() as c:
            return c.restore(path + ".orbax", like)

    return save, load


def _raw(how):
    """The floor: every leaf at a 64-byte aligned offset, so that on CPU JAX can alias
    the loaded buffer instead of copying it. `how`: "read" into one buffer, or "mmap"
    (pages are then read when first touched, so its load time is not comparable)."""
    import mmap

    import jax
    import numpy as np

    def stride(nbytes):
        return -(-nbytes // 64) * 64

    def save(path, tree):
        pad = bytes(64)
        bufs = []
        for x in jax.tree.leaves(tree):
            b = memoryview(np.asarray(x)).cast("B")
            bufs.append(b)
            if b.nbytes % 64:
                bufs.append(pad[: -b.nbytes % 64])
        with open(path + ".raw", "wb", buffering=0) as f:
            for i in range(0, len(bufs), 512):
                want = sum(len(b) for b in bufs[i : i + 512])
                if os.writev(f.fileno(), bufs[i : i + 512]) != want:
                    raise OSError("short write")

    def load(path, like):
        leaves, treedef = jax.tree.flatten(like)
        with open(path + ".raw", "rb", buffering=0) as f:
            if how == "mmap":
                big = np.frombuffer(mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ), np.uint8)
            else:
                total = os.fstat(f.fileno()).st_size
                big = np.empty(total + 64, np.uint8)
                off = -big.ctypes.data % 64
                big, pos = big[off : off + total], 0
                while pos < total:
                    got = f.readinto(memoryview(big)[pos:])
                    if got == 0:
                        raise EOFError
                    pos += got
        out, pos = [], 0
        for l in leaves:
            n = l.size * 4
            out.append(big[pos : pos + n].view(np.float32).reshape(l.shape))
            pos += stride(n)
        return treedef.unflatten(jax.device_put(out))

    return save, load


def _contenders():
    out = {
        "equinox": lambda: _eqx_like("equinox"),
        "safetensors": _safetensors,
        "orbax": _orbax,
        "raw writev/readinto": lambda: _raw("read"),
        "raw writev/mmap": lambda: _raw("mmap"),
    }
    if OPTIONS["eqx"] or os.environ.get("BENCH_EQX"):
        out["eqx"] = _eqx_named  # fsync and digests included
        out["eqx mmap, no digests"] = lambda: _eqx_named(mmap=True, verify=False)
        out["eqx, .eqx stream"] = lambda: _eqx_like("eqx")
    return out


def _hwm():
    with open("/proc/self/status") as f:
        d = dict(l.split(":", 1) for l in f)
    return int(d["VmHWM"].split()[0]) * 1024, int(d["VmRSS"].split()[0]) * 1024


def _child(name, op, layout, path):
    import time

    import jax
    import numpy as np

    save, load = _contenders()[name]()
    # small warm-up: imports, thread pools, compiled helpers
    warm = tempfile.mkdtemp(dir=os.path.dirname(path))
    if not name.startswith("raw"):
        t = {"a": jax.numpy.ones(8)}
        save(warm + "/w", t)
        load(warm + "/w", {"a": jax.ShapeDtypeStruct((8,), jax.numpy.float32)})
    shutil.rmtree(warm)
    tree = _tree(layout) if op == "save" else _like(layout)
    jax.block_until_ready(jax.tree.leaves(tree)) if op == "save" else None
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")  # resets VmHWM
    _, rss0 = _hwm()
    c0, t0 = time.process_time(), time.perf_counter()
    if op == "save":
        save(path, tree)
        t1 = time.perf_counter()
        target = next(os.path.join(os.path.dirname(path), f) for f in os.listdir(os.path.dirname(path)))
        for root, _, files in os.walk(target) if os.path.isdir(target) else [("", [], [target])]:
            for f in files:
                fd = os.open(os.path.join(root, f), os.O_RDONLY)
                os.fsync(fd)
                os.close(fd)
        t2 = time.perf_counter()
    else:
        out = load(path, tree)
        jax.block_until_ready(jax.tree.leaves(out))
        t1 = t2 = time.perf_counter()
    c1 = time.process_time()
    hwm, _ = _hwm()
    if op == "load":  # loaded data must really be there, and right
        vals = [out[k] for k in sorted(out)]
        ref = np.random.default_rng(0).random(1 << 20, dtype=np.float32)
        for i in (0, 1, len(vals) - 1):
            assert np.allclose(np.asarray(vals[i])[:100], ref[:100] + i), i
    print(json.dumps({"wall": t1 - t0, "fsync": t2 - t1, "cpu": c1 - c0, "peak": hwm - rss0}))


def main():
    rounds = 2 if OPTIONS["quick"] else 5
    env = dict(os.environ, **({"BENCH_EQX": "1"} if OPTIONS["eqx"] else {}))
    for where in ("/dev/shm", tempfile.gettempdir()):
        for layout in ("10 big", "10000 small", "10000 aligned"):
            names = list(_contenders())
            acc = {op: {k: {n: [] for n in names} for k in ("wall", "fsync", "cpu", "peak")} for op in ("save", "load")}
            for r in range(rounds if where == "/dev/shm" else max(2, rounds // 2 + 1)):
                for name in names[r % len(names) :] + names[: r % len(names)]:
                    d = tempfile.mkdtemp(dir=where)
                    try:
                        for op in ("save", "load"):
                            p = subprocess.run(
                                [sys.executable, __file__, name, op, layout, d + "/m"],
                                capture_output=True,
                                text=True,
                                env=env,
                            )
                            if p.returncode:
                                print(f"  [skip] {name} {op} {layout}: {p.stderr[-300:]}")
                                break
                            for k, v in json.loads(p.stdout.splitlines()[-1]).items():
                                acc[op][k][name].append(v)
                    finally:
                        shutil.rmtree(d)
            keep = lambda d: {k: v for k, v in d.items() if v}
            for op in ("save", "load"):
                t = f"{op}, 1 GB in {layout} leaves, {where}"
                report(t + ": wall", keep(acc[op]["wall"]), base="equinox", unit="ms")
                if op == "save" and where != "/dev/shm":
                    both = {
                        n: [a + b for a, b in zip(acc[op]["wall"][n], acc[op]["fsync"][n], strict=True)] for n in names
                    }
                    report(t + ": wall incl. fsync", keep(both), base="equinox", unit="ms")
                report(t + ": CPU time", keep(acc[op]["cpu"]), base="equinox", unit="ms")
                report(t + ": peak RSS growth", keep(acc[op]["peak"]), base="equinox", unit="MB")


if __name__ == "__main__":
    _child(*sys.argv[1:])
