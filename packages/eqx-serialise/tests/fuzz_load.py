"""Read damaged and forged files for as long as you like: `python fuzz_load.py [SECONDS]`.

With `atheris` (Python 3.11, Linux) the coverage of our code leads the way; without it, files are
changed at random. Whatever the file: a `CheckpointError`, or the values that the reader of the
package `safetensors` finds. `nox -s fuzz` runs it.
"""

import contextlib
import io
import json
import random
import sys
import time

import numpy as np
import safetensors
import xxhash

try:
    import atheris
except ImportError:
    atheris = None

with atheris.instrument_imports(include=["eqx_serialise"]) if atheris else contextlib.nullcontext():
    import eqx_serialise

LIKE = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(3, np.int8), "c": 0.5, "d": np.float64(2)}
_START = b'{"__metadata__":{"eqx_serialise.seal":"'
_SEAL = slice(8 + len(_START), 8 + len(_START) + 32)


def whole_file():
    """Return the bytes of a checkpoint of `LIKE`."""
    file = io.BytesIO()
    eqx_serialise.save(file, LIKE, metadata={"note": "x"})
    return file.getvalue()


def sealed(content):
    """Return a file with the seal that its header should have, as a forger would write it."""
    end = 8 + int.from_bytes(content[:8], "little")
    if content[8 : _SEAL.start] != _START or end > len(content):
        return content
    blank = content[: _SEAL.start] + b"0" * 32 + content[_SEAL.stop : end]
    return content[: _SEAL.start] + xxhash.xxh3_128(blank).hexdigest().encode() + content[_SEAL.stop :]


def with_header(header, data):
    """Return a file with a header, given as JSON, in front of data."""
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    return len(text).to_bytes(8, "little") + text + data


def check(content):
    """Read a file in every way; raise an error that is not ours where something is wrong."""
    for verify in (True, False):
        try:
            file = io.BytesIO(content)
            loaded = eqx_serialise.load(file, LIKE, verify=verify, strict=False)
        except eqx_serialise.CheckpointError:
            continue
        # What we take, others take as well, and read the same. After it, a file may go on.
        theirs = dict(safetensors.deserialize(content[: file.tell()]))
        for name in ("a", "b", "d"):
            key = f"['{name}']"
            if key in theirs:
                assert bytes(theirs[key]["data"]) == np.asarray(loaded[name]).tobytes(), name
    for read in (eqx_serialise.verify, lambda file: repr(eqx_serialise.inspect(file))):
        with contextlib.suppress(eqx_serialise.CheckpointError):
            read(io.BytesIO(content))


def mutated(content, draw):
    """Return a file with some bytes replaced, removed, repeated or taken from elsewhere, and sealed half of the time."""
    content = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        content = content or bytearray(1)
        start = draw.randrange(len(content))
        stop = min(len(content), start + draw.choice([1, 1, 1, 2, 8, 64]))
        other = draw.randrange(len(content))
        content[start:stop] = draw.choice(
            [
                draw.randbytes(stop - start),
                b"",
                content[start:stop] * 2,
                content[other : other + stop - start],
                draw.choice(
                    [b"0", b"-1", b"9" * 20, b"[", b"{", b'"', b"}", b"null", b"1e9", b"\\ud800", b"F64", b","]
                ),
            ]
        )
    if draw.random() < 0.5:
        end = max(0, min(len(content) - 8, int.from_bytes(whole_file()[:8], "little")))
        content[:8] = end.to_bytes(8, "little")
    return sealed(bytes(content)) if draw.random() < 0.5 else bytes(content)


def fuzz_at_random(seconds):
    """Return how many files were read."""
    draw, whole, count = random.Random(time.time_ns()), whole_file(), 0
    stop = time.monotonic() + seconds
    while time.monotonic() < stop:
        content = mutated(whole, draw)
        try:
            check(content)
        except BaseException:
            print("the file:", content, file=sys.stderr)
            raise
        count += 1
    return count


def fuzz_by_coverage(seconds):
    """Fuzz until the time is over; a file for which something is wrong is kept as `crash-...`."""
    words = [sys.argv[0], f"-max_total_time={seconds}", "-max_len=4096", "-print_final_stats=1"]
    seeds = [whole_file()]

    def custom_mutator(data, max_size, seed):
        draw = random.Random(seed)
        content = data if draw.random() < 0.7 and len(data) > 8 else draw.choice(seeds)
        return mutated(content, draw)[:max_size] if draw.random() < 0.6 else sealed(atheris.Mutate(data, max_size))

    atheris.Setup(words, check, custom_mutator=custom_mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    duration = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    if atheris is None:
        print(f"atheris is not installed; {fuzz_at_random(duration)} files changed at random were read")
    else:
        fuzz_by_coverage(duration)
