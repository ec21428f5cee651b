"""Shared timing and reporting helpers.

Every comparison is *interleaved*: one sample of each contender per round, in rotating
order, so slow drift of a shared machine hits all contenders alike. We report, per
contender, the median and min per call, and the ratio to a base contender, computed as
the median of per-round (paired) ratios, plus the ratio of minima. `cpu` is the same paired
ratio in process CPU time, which does not count time stolen by other processes.
"""

import gc
import importlib
import importlib.util
import json
import os
import platform
import statistics
import sys
import time

RESULTS = []  # rows collected by this process
OPTIONS = {"eqx": False, "quick": False, "only": None}


def machine_line():
    import jax
    import jaxlib

    model = "?"
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    load = "/".join(f"{x:.2f}" for x in os.getloadavg())
    return (
        f"{model}, {os.cpu_count()} cores, load {load}, Python {platform.python_version()}, "
        f"jax {jax.__version__}, jaxlib {jaxlib.__version__}, backend {jax.default_backend()}"
    )


def eqx_likes():
    """[(name, module)] for every installed library with the Equinox API."""
    names = ["equinox"] + (["eqx"] if OPTIONS["eqx"] else [])
    out = []
    for name in names:
        if importlib.util.find_spec(name) is None:
            print(f"  [skip] {name}: not installed", file=sys.stderr)
        else:
            out.append((name, importlib.import_module(name)))
    return out


def optional(name):
    if importlib.util.find_spec(name.split(".")[0]) is None:
        print(f"  [skip] {name}: not installed", file=sys.stderr)
        return None
    return importlib.import_module(name)


def guarded(cases, name, build):
    """Adds a contender; a contender that cannot do the job is reported, not fatal."""
    try:
        fn = build()
        fn()
    except Exception as e:
        print(f"  [skip] {name}: {type(e).__name__}: {str(e)[:200]}", file=sys.stderr)
    else:
        cases[name] = fn


def _calibrate(fn, target):
    fn()
    n = 1
    while True:
        t = time.perf_counter()
        for _ in range(n):
            fn()
        t = time.perf_counter() - t
        if t >= target or n >= 1_000_000:
            return n
        n = max(n + 1, int(n * min(10.0, 1.2 * target / max(t, 1e-9))))


def compare(title, cases, *, base=None, rounds=25, target=0.01, unit="us", setup=None):
    """Times `cases` (name -> zero-argument callable) interleaved; prints a table."""
    if not cases:
        return {}
    if OPTIONS["only"] and OPTIONS["only"] not in title:
        return {}
    if OPTIONS["quick"]:
        rounds, target = max(5, rounds // 4), target / 3
    inner = {k: _calibrate(f, target) for k, f in cases.items()}
    samples = {k: [] for k in cases}
    cpu = {k: [] for k in cases}
    names = list(cases)
    gc.collect()
    gc.disable()
    try:
        for r in range(rounds):
            k = r % len(names)
            for name in names[k:] + names[:k]:
                fn, n = cases[name], inner[name]
                fn()  # re-warm the caches for this contender
                c, t = time.process_time(), time.perf_counter()
                for _ in range(n):
                    fn()
                samples[name].append((time.perf_counter() - t) / n)
                cpu[name].append((time.process_time() - c) / n)
            gc.collect()
    finally:
        gc.enable()
    return report(title, samples, base=base, unit=unit, cpu=cpu)


def compare_once(title, cases, *, base=None, rounds=5, unit="ms"):
    """As `compare`, for slow cases: one call per sample; each returns its own seconds."""
    if OPTIONS["quick"]:
        rounds = min(rounds, 2)
    samples = {k: [] for k in cases}
    names = list(cases)
    for r in range(rounds):
        k = r % len(names)
        for name in names[k:] + names[:k]:
            gc.collect()
            samples[name].append(cases[name]())
    return report(title, samples, base=base, unit=unit)


SCALE = {"ns": 1e9, "us": 1e6, "ms": 1e3, "s": 1.0, "MB": 1e-6}


def report(title, samples, *, base=None, unit="us", cpu=None):
    base = base or next(iter(samples))
    s = SCALE[unit]
    print(f"\n## {title}  (base = {base}, {len(samples[base])} rounds)")
    print(
        f"{'contender':34s} {'median':>11s} {'min':>11s} {'ratio':>8s} {'r(min)':>8s} {'IQR of ratio':>15s} {'cpu':>8s} {'cpu(min)':>8s}"
    )
    out = {}
    for name, xs in samples.items():
        if base in samples and len(xs) == len(samples[base]) and all(b > 0 for b in samples[base]):
            rs = sorted(x / b for x, b in zip(xs, samples[base], strict=True))
            ratio = statistics.median(rs)
            rmin = min(xs) / min(samples[base])
            iqr = (rs[len(rs) // 4], rs[(3 * len(rs)) // 4])
        else:
            ratio = rmin = float("nan")
            iqr = (float("nan"),) * 2
        row = {
            "title": title,
            "contender": name,
            "base": base,
            "unit": unit,
            "median": statistics.median(xs) * s,
            "min": min(xs) * s,
            "ratio": ratio,
            "ratio_min": rmin,
            "iqr": iqr,
            "rounds": len(xs),
        }
        if cpu and min(cpu[base]) > 0:
            row["cpu_ratio"] = statistics.median(x / b for x, b in zip(cpu[name], cpu[base], strict=True))
            row["cpu_ratio_min"] = min(cpu[name]) / min(cpu[base])
            row["cpu_min"] = min(cpu[name]) * s
        RESULTS.append(row)
        out[name] = row
        print(
            f"{name:34s} {row['median']:9.3f}{unit:>2s} {row['min']:9.3f}{unit:>2s} "
            f"{ratio:8.3f} {rmin:8.3f}   {iqr[0]:6.2f}-{iqr[1]:<6.2f}"
            + (f" {row['cpu_ratio']:8.3f} {row['cpu_ratio_min']:8.3f}" if "cpu_ratio" in row else "")
        )
    sys.stdout.flush()
    return out


def note(title, **values):
    RESULTS.append(dict(title=title, **values))
    print(f"   {title}: " + ", ".join(f"{k}={v}" for k, v in values.items()))
    sys.stdout.flush()


def dump(path, topic):
    with open(path, "w") as f:
        json.dump({"topic": topic, "machine": machine_line(), "rows": RESULTS}, f, indent=1)
