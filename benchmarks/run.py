"""Run the benchmark topics, each in a fresh process.

nox -s bench                              # every topic, the peers alone
nox -s bench -- --topics 1,2 --eqx        # two topics, ours beside them
nox -s bench -- --topics 8 --eqx --quick  # fewer repeats
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def options():
    p = argparse.ArgumentParser(description="Measure our packages beside their peers.")
    p.add_argument("--topics", default="all", help="such as 1,2 (default: all)")
    p.add_argument("--eqx", action="store_true", help="also measure our packages")
    p.add_argument("--quick", action="store_true", help="fewer repeats")
    p.add_argument("--only", help="only the tables whose title contains this")
    p.add_argument("--out", type=Path, default=HERE / "results", help="where tables and JSON go")
    p.add_argument("--child", help=argparse.SUPPRESS)
    return p.parse_args()


def run_topic(a):
    import timing

    timing.OPTIONS.update(eqx=a.eqx, quick=a.quick, only=a.only)
    print(f"# {a.child}\n# {timing.machine_line()}")
    __import__(a.child).main()
    timing.dump(a.out / f"{a.child}.json", a.child)


def start_topic(a, topic):
    """Run one topic in a process of its own, print what it prints and keep a copy."""
    words = [sys.executable, __file__, *sys.argv[1:], "--child", topic]
    # Threads of PyTorch that wait would spin, and be counted as CPU time.
    env = {"JAX_PLATFORMS": "cpu", "OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    with (
        open(a.out / f"{topic}.txt", "w") as copy,
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env) as process,
    ):
        for line in process.stdout:
            if not ("Warning" in line and "site-packages" in line):
                sys.stdout.write(line)
                copy.write(line)
    return process.returncode


def main():
    a = options()
    if a.child:
        return run_topic(a)
    a.out.mkdir(parents=True, exist_ok=True)
    topics = sorted(file.stem for file in HERE.glob("t[0-9]*.py"))
    if a.topics != "all":
        wanted = {int(number) for number in a.topics.split(",")}
        topics = [topic for topic in topics if int(topic[1:3]) in wanted]
    failed = [topic for topic in topics if start_topic(a, topic)]
    return f"failed: {', '.join(failed)}" if failed else None


if __name__ == "__main__":
    sys.exit(main())
