"""Topic 5: import time and memory, over `import jax`."""

import subprocess
import sys

from timing import OPTIONS, note, report

CHILD = """
import time, sys
t = time.perf_counter()
import {first}
t1 = time.perf_counter()
import {mod}
t2 = time.perf_counter()
rss = [int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('VmRSS')][0]
print(t1 - t, t2 - t1, rss, len(sys.modules))
"""


def main():
    mods = ["jax", "equinox", "flax", "flax.nnx", "haiku", "optax"] + (["eqx"] if OPTIONS["eqx"] else [])
    rounds = 4 if OPTIONS["quick"] else 15
    extra, wall, rss, nmods = ({m: [] for m in mods} for _ in range(4))
    for r in range(rounds):
        for m in mods[r % len(mods) :] + mods[: r % len(mods)]:
            first = "jax, jax.numpy" if m != "jax" else "sys"
            p = subprocess.run(
                [sys.executable, "-c", CHILD.format(first=first, mod=m)],
                capture_output=True,
                text=True,
            )
            if p.returncode:
                print(f"  [skip] {m}: {p.stderr[-200:]}")
                continue
            a, b, c, n = p.stdout.split()
            extra[m].append(float(b))
            wall[m].append(float(a) + float(b))
            rss[m].append(float(c) * 1024)
            nmods[m].append(int(n))
    keep = lambda d: {k: v for k, v in d.items() if v}
    report(
        "import time on top of jax (row `jax` is jax itself)",
        keep(extra),
        base="equinox",
        unit="ms",
    )
    report("import time, total", keep(wall), base="jax", unit="ms")
    report("RSS after import", keep(rss), base="jax", unit="MB")
    for m in keep(nmods):
        note("modules loaded", contender=m, value=nmods[m][0])
    for m in ["equinox"] + (["eqx"] if OPTIONS["eqx"] else []):
        p = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", f"import jax, jax.numpy; import {m}"],
            capture_output=True,
            text=True,
        )
        rows = []
        for line in p.stderr.splitlines():
            if not line.startswith("import time:") or "|" not in line or "self [us]" in line:
                continue
            self_us, cum, name = line[len("import time:") :].split("|")
            rows.append((int(self_us), int(cum), name.rstrip()))
        # rows are post-order; everything after `jax.numpy` belongs to m
        idx = max(i for i, r in enumerate(rows) if r[2].strip() in ("jax", "jax.numpy"))
        mine = rows[idx + 1 :]
        for s, c, name in sorted(mine, key=lambda r: -r[0])[:15]:
            note(f"-X importtime {m}", module=name.strip(), self_us=s, cumulative_us=c)
