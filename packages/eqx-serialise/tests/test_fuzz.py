"""Files that were changed at random, in their bytes or in what their headers say, give an error or what others read."""

import importlib.util
import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

_SPEC = importlib.util.spec_from_file_location("fuzz_load", Path(__file__).with_name("fuzz_load.py"))
fuzz_load = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(fuzz_load)

WHOLE = fuzz_load.whole_file()
END = 8 + int.from_bytes(WHOLE[:8], "little")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(), inside, max_size=3),
    max_leaves=6,
)
STRANGE = st.sampled_from(["F32", "U8", "bool", "key<rbg>", "nan:00", "..", "\0", [], {}, 0, 1, -1, 2**63, True, 1.0])


@given(st.randoms(use_true_random=False))
@settings(max_examples=300)
def test_bytes_changed_at_random_give_an_error_or_what_others_read(draw):
    fuzz_load.check(fuzz_load.mutated(WHOLE, draw))


@given(st.binary(max_size=200))
def test_any_bytes_at_all_give_an_error(content):
    fuzz_load.check(content)


def places(content, path=()):
    """Return the ways to all values in JSON."""
    inside = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [path, *(place for key, value in inside for place in places(value, (*path, key)))]


def replaced(content, path, value):
    if not path:
        return value
    content = content.copy()
    content[path[0]] = replaced(content[path[0]], path[1:], value)
    return content


@given(st.data())
@settings(max_examples=300)
def test_a_header_that_says_something_else_gives_an_error_or_what_others_read(data):
    header = json.loads(WHOLE[8:END])
    ours = json.loads(header["__metadata__"]["eqx_serialise"])
    for _ in range(data.draw(st.integers(1, 2))):
        value = data.draw(STRANGE | JSON)
        if data.draw(st.booleans()):
            header = replaced(header, data.draw(st.sampled_from(places(header)[1:])), value)
        else:
            ours = replaced(ours, data.draw(st.sampled_from(places(ours)[1:])), value)
        if not isinstance(header.get("__metadata__"), dict) or not isinstance(ours, dict):
            break
    if isinstance(header.get("__metadata__"), dict):
        header["__metadata__"]["eqx_serialise"] = json.dumps(ours)
    try:
        content = fuzz_load.with_header(header, WHOLE[END:])
    except UnicodeEncodeError:
        return
    fuzz_load.check(fuzz_load.sealed(content))


def test_what_is_checked_can_fail():
    fuzz_load.check(WHOLE)
    changed = bytearray(WHOLE)
    changed[-1] ^= 1
    fuzz_load.check(bytes(changed))
    theirs = fuzz_load.safetensors.deserialize
    try:
        fuzz_load.safetensors.deserialize = lambda content: [("['b']", {"data": b"other"})]
        with pytest.raises(AssertionError):
            fuzz_load.check(WHOLE)
    finally:
        fuzz_load.safetensors.deserialize = theirs


def test_most_changed_files_are_still_files_that_are_looked_into():
    draw = random.Random(0)
    files = [fuzz_load.mutated(WHOLE, draw) for _ in range(200)]
    assert sum(content[8:47] == WHOLE[8:47] for content in files) > 100
