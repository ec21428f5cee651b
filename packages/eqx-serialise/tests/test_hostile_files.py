"""A file that was made to do harm is refused: with a clear error, in little memory and time, and nothing is run."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import xxhash

import eqx_core
import eqx_serialise

PROGRAM = Path(__file__).with_name("hostile_files.py")
SPARE = 64_000_000
SECONDS = 30


def with_header(header, data=b""):
    header = header if isinstance(header, bytes) else header.encode()
    return len(header).to_bytes(8, "little") + header + data


def forged(inner, tensors="", count=0, data=bytes(4)):
    """Return a checkpoint with this text as our metadata, and with these tensors beside it."""
    start, zeros = '{"__metadata__":{"eqx_serialise.seal":"', "0" * 32
    digests = f'","eqx_serialise.xxh3_128":"{zeros * count}'
    rest = f'{digests}","eqx_serialise":{json.dumps(inner)}}}{tensors}}}'
    text = (start + zeros + rest).encode()
    # Sealed: whoever forges a file can do that as well.
    seal = xxhash.xxh3_128(len(text).to_bytes(8, "little") + text).hexdigest()
    return with_header(start + seal + rest, data)


def with_values(text):
    return forged(f'{{"version":1,"values":{text}}}')


def with_tensors(names, shape="[0]", stop=0, dtype=("U8", "uint8")):
    dtypes = ",".join(f'{json.dumps(name)}:"{dtype[1]}"' for name in names) if dtype[1] != "uint8" else ""
    outer = ",".join(
        f'{json.dumps(name)}:{{"dtype":"{dtype[0]}","shape":{shape},"data_offsets":[0,{stop}]}}' for name in names
    )
    return forged(f'{{"version":1,"dtypes":{{{dtypes}}},"values":{{}}}}', f",{outer}", len(names))


def nested(depth, start="[", stop="]"):
    return start * depth + "1" + stop * depth


FILES = {
    "a header of 2^63 bytes": lambda: (2**63).to_bytes(8, "little") + bytes(100),
    "a header of 2^64-1 bytes": lambda: b"\xff" * 8 + bytes(100),
    "a header longer than memory": lambda: with_header(b" " * 70_000_000),
    "10 TB claimed": lambda: with_tensors(["[0]"], f"[{10**13}]", 10**13),
    "2^63 elements claimed": lambda: with_tensors(["[0]"], f"[{2**63}]", 2**63),
    "2^64 elements by product": lambda: with_tensors(["[0]"], f"[{2**32},{2**32}]", 0),
    "numbers of 4000 digits": lambda: with_tensors(["[0]"], str([10**4000] * 2000), 0),
    "a number of 100000 digits": lambda: with_tensors(["[0]"], f"[{'9' * 100_000}]", 0),
    "100k lists in lists": lambda: with_header(nested(100_000)),
    "100k lists in lists, within": lambda: forged(nested(100_000)),
    "100k objects in objects": lambda: with_header(nested(100_000, '{"a":', "}")),
    **{f"{n} lists as a value": lambda n=n: with_values(f'{{"a":{nested(n)}}}') for n in range(900, 1000, 5)},
    **{f"{n} lists as the version": lambda n=n: forged(f'{{"version":{nested(n)}}}') for n in range(900, 1000, 9)},
    "a key twice": lambda: with_header('{"a":1,"a":1}'),
    "a key twice, within": lambda: with_values('{"a":{"int":1},"a":{"int":2}}'),
    "two leaves in one place": lambda: with_tensors(["[0]", "[1]"], "[4]", 4),
    "names that look like paths": lambda: with_tensors(["../../etc/passwd", "/etc/passwd", "\0", "file:///etc"]),
    "half a surrogate pair": lambda: with_tensors(["\ud800", "\udfff"]),
    "half a surrogate pair, within": lambda: with_values('{"\\ud800":{"int":1}}'),
    "a name of 1 MB": lambda: with_tensors(["x" * 1_000_000]),
    "a name of 300k steps": lambda: with_tensors(["." * 300_000]),
    "a million tiny tensors": lambda: with_tensors([f"[{i}]" for i in range(600_000)]),
    "as many tensors as fit": lambda: with_tensors([f"[{i}]" for i in range(75_000)]),
    "as many keys as fit": lambda: with_header("{" + ",".join(f'"{i}":1' for i in range(250_000)) + "}"),
    "as many strings as fit": lambda: with_header('{"a":[' + '"ab",' * 830_000 + "0]}"),
    "as many lists as fit": lambda: with_header('{"a":[' + "[1e5]," * 440_000 + "0]}"),
    "a million empty objects": lambda: with_header('{"a":[' + "{}," * 1_000_000 + "0]}"),
    "a million numbers": lambda: with_header('{"a":[' + "1e5," * 1_000_000 + "0]}"),
    "a million keys, within": lambda: with_values("{" + ",".join(f'"{i}":1' for i in range(1_000_000)) + "}"),
    "commas in disguise": lambda: with_values('{"a":[' + "{}," * 1_000_000 + "0]}").replace(b",", b"\\u002c"),
    "wide letters": lambda: with_header('{"a":"' + "x" * 10_000_000 + '\N{GRINNING FACE}"}'),
    "a float of the wrong size": lambda: with_values('{"a":{"float":"nan:00"}}'),
    "an integer too long to print": lambda: with_values(f'{{"a":{{"int":"{hex(10**6000)}"}}}}'),
    "a class to import": lambda: forged(
        '{"version":1,"values":{},"nodes":{".":{"class":"os.system"}},"static":{".f":{"function":"os.system"}}}'
    ),
    "a pickle": lambda: b"\x80\x04cposix\nsystem\n(S'touch /tmp/owned'\ntR.",
    "an array of pickles": lambda: b"\x93NUMPY\x01\x00\x46\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
    "keys of an unknown kind": lambda: with_tensors(
        [f"[{i}]" for i in range(3000)], dtype=("U32", "key<\x1b[2J>".replace("\x1b", "\\\\u001b"))
    ),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Read all files in one process, which has no more than a gigabyte beyond what JAX takes."""
    if sys.platform != "linux":
        pytest.skip("The peak of memory is asked of Linux.")
    folder = tmp_path_factory.mktemp("hostile") / "files"
    folder.mkdir()
    for name, make in FILES.items():
        (folder / name).write_bytes(make())
    # A file that claims what it has not: nothing but a hole.
    with open(folder / "a hole of 1 TB", "wb") as file:
        file.write(with_tensors(["[0]"], f"[{2**40}]", 2**40)[:-4])
        file.truncate(2**40)
    words = [sys.executable, PROGRAM, folder]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=600, env={**os.environ, "JAX_PLATFORMS": "cpu"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    for file in folder.iterdir():
        file.unlink()
    return json.loads(done.stdout), sizes


@pytest.mark.parametrize("name", [*FILES, "a hole of 1 TB"])
def test_a_hostile_file_is_refused_in_little_memory_and_time(outcomes, name):
    found, sizes = outcomes
    for reader, outcome in found["found"][name].items():
        assert outcome["kind"] == "CheckpointError", (reader, outcome)
        assert reader == "lenient" or name in outcome["text"], (reader, outcome)
        assert outcome["text"].isprintable() or "\n" in outcome["text"]
        assert "\x1b" not in outcome["text"]
        assert outcome["memory"] < sizes[name] + SPARE, (reader, outcome)
        assert outcome["seconds"] < SECONDS, (reader, outcome)


def test_nothing_in_a_hostile_file_is_run(outcomes):
    assert outcomes[0]["executed"] == []


class Current(eqx_core.Module):
    __schema__ = 2
    x: object
    size: int = eqx_core.field(static=True, default=1)

    @eqx_serialise.migration(1, 2)
    def _renamed(leaves):
        return leaves


def test_a_file_of_thousands_of_old_nodes_is_migrated_in_one_pass(saved):
    names = [f"[{i}]" for i in range(5000)]
    values = ",".join(f'"{name}.x":{{"int":{i}}}' for i, name in enumerate(names))
    nodes = ",".join(f'"{name}":{{"class":"Current"}}' for name in names)
    static = ",".join(f'"{name}.size":{{"int":0}}' for name in names)
    content = with_header(
        '{"__metadata__":{"eqx_serialise":'
        + json.dumps(f'{{"version":1,"values":{{{values}}},"nodes":{{{nodes}}},"static":{{{static}}}}}')
        + "}}"
    )
    like = [Current(0) for _ in names]

    loaded = eqx_serialise.load(io.BytesIO(content), like, verify=False)
    assert [node.x for node in loaded] == list(range(5000))


def test_an_integer_too_long_to_print_is_saved_loaded_and_shown(saved):

    content = saved([10**6000])
    assert eqx_serialise.load(io.BytesIO(content), [0]) == [10**6000]
    assert "= 0x" in repr(eqx_serialise.inspect(io.BytesIO(content)))


class Described(eqx_core.Module):
    x: object
    words: tuple = eqx_core.field(static=True)


def test_static_values_so_large_that_load_would_refuse_them_are_not_saved(tmp_path):
    tree = Described(0, tuple(range(200_000)))
    with pytest.raises(
        ValueError, match=r"less memory for its header than `load` allows it; got .* Save large values as"
    ):
        eqx_serialise.save(tmp_path / "model", tree)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A hundred thousand leaves of four bytes, in nodes of ten."""
    tree = [[np.float32(10 * i + j) for j in range(10)] for i in range(10_000)]
    path = tmp_path_factory.mktemp("many") / "model.safetensors"
    eqx_serialise.save(path, tree)
    return path, tree


def test_whatever_is_saved_is_loaded_into_what_it_was(many):
    path, tree = many
    assert eqx_serialise.load(path, tree) == tree
    assert eqx_serialise.load(path, tree, mmap=True, verify=False) == tree


def test_so_many_leaves_are_refused_where_few_are_asked_for(many):
    path, tree = many
    expected = (
        r"`load\(.*a header that takes at most \d+ bytes of memory; got one of so many parts .* into a `like` of as"
    )
    with pytest.raises(eqx_serialise.CheckpointError, match=expected):
        eqx_serialise.load(path, tree[:1], strict=False)
    with pytest.raises(eqx_serialise.CheckpointError, match=r"`verify\(.*so many parts"):
        eqx_serialise.verify(path)


@pytest.mark.parametrize(
    "name", ["../up", "/root", "a\0b", "\N{RIGHT-TO-LEFT OVERRIDE}x", "e\N{COMBINING ACUTE ACCENT}", ""]
)
def test_a_name_is_only_a_name(tmp_path, name):
    path = tmp_path / "folder" / "model"
    path.parent.mkdir()
    tree = {name: jnp.arange(3.0), "\N{LATIN SMALL LETTER E WITH ACUTE}": jnp.ones(1)}
    eqx_serialise.save(path, tree)
    loaded = eqx_serialise.load(path, tree)
    np.testing.assert_array_equal(loaded[name], tree[name])
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["model"]
