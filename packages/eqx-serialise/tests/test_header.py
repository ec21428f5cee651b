"""No damage goes unnoticed, and no header can make the reader do anything but refuse it."""

import io
import json
import random

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import safetensors
import xxhash

import eqx_serialise

TREE = {"w": jnp.arange(3.0), "k": jr.key(1), "b": np.array([True]), "lr": 0.5}
KIND = eqx_serialise.CheckpointError


@pytest.fixture(scope="module")
def content(saved):
    return saved(TREE)


def load(content, tree=TREE, **kwargs):
    return eqx_serialise.load(io.BytesIO(content), tree, **kwargs)


def test_no_flipped_bit_goes_unnoticed(content):
    for position in range(len(content)):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[position] ^= 1 << bit
            with pytest.raises(KIND):
                load(bytes(flipped))


def test_no_truncation_goes_unnoticed(content, tmp_path):
    path = tmp_path / "model"
    for length in range(len(content)):
        with pytest.raises(KIND):
            load(content[:length])
        if length % 97 == 0:
            path.write_bytes(content[:length])
            with pytest.raises(KIND, match=r"path_or_file='.*model'"):
                eqx_serialise.load(path, TREE)


def test_bytes_after_the_checkpoint_are_refused_in_a_file_of_its_own(content, tmp_path):
    path = tmp_path / "model"
    path.write_bytes(content + b"\0")
    expected = f"got {len(content) + 1} bytes, where its header says {len(content)}"
    with pytest.raises(KIND, match=expected):
        eqx_serialise.load(path, TREE)


def test_each_tensor_has_its_own_digest_wherever_it_lies(saved):
    sizes = [3, 64, 0, 5, 1 << 21, 128, 1]
    tree = {f"{i}": np.full(size, i, np.uint8) for i, size in enumerate(sizes)}
    contents = eqx_serialise.inspect(io.BytesIO(saved(tree)))
    starts = [contents[f"['{name}']"].start for name in tree]
    assert starts != sorted(starts)
    for name, array in tree.items():
        assert contents[f"['{name}']"].digest == xxhash.xxh3_128(array.tobytes()).hexdigest()
    # The published value for no bytes at all: https://github.com/Cyan4973/xxHash.
    assert contents["['2']"].digest == "99aa06d3014798d86001c324468d497f"


def test_an_error_names_the_file_the_leaf_and_the_place(saved):
    content = bytearray(saved({"a": jnp.zeros(16), "b": jnp.zeros(16)}))
    content[-1] ^= 1
    place = f"bytes {len(content) - 64} to {len(content)} of the file"
    with pytest.raises(KIND, match=rf"<BytesIO>\)` .* other values for `\['b'\]` \({place}\)"):
        load(bytes(content), {"a": jnp.zeros(16), "b": jnp.zeros(16)})


def test_exchanged_tensors_are_noticed(saved):
    tree = {"a": jnp.zeros(16), "b": jnp.ones(16)}
    content = saved(tree)
    exchanged = content[:-128] + content[-64:] + content[-128:-64]
    with pytest.raises(KIND, match="other values"):
        load(exchanged, tree)


def test_without_verifying_the_digests_do_not_matter(saved):
    content = bytearray(saved([jnp.zeros(2)]))
    content[-1] ^= 1
    assert load(bytes(content), [jnp.zeros(2)], verify=False)[0][0] == 0


def test_random_damage_never_gives_other_values(saved):
    tree = {"a": np.arange(5000.0), "b": [np.ones((7, 3)), "text", 1]}
    content = saved(tree)
    draw = random.Random(0)
    for _ in range(300):
        damaged = bytearray(content)
        start = draw.randrange(len(content))
        stop = min(len(content), start + draw.choice([1, 8, 512, 4096]))
        damaged[start:stop] = draw.choice([bytes(stop - start), draw.randbytes(stop - start), b""])
        if damaged != content:
            with pytest.raises(KIND):
                load(bytes(damaged), tree)


def nested(depth):
    """Return lists in lists."""
    return [nested(depth - 1)] if depth else 1


def forged(whole=(), ours=(), tensor=(), data=b"\0" * 4):
    """Return a checkpoint of one leaf, `[0]`, with entries of its header replaced."""
    place = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | dict(tensor)
    mine = json.dumps({"version": 1, "values": {}} | dict(ours))
    header = {"__metadata__": {"eqx_serialise": mine, "eqx_serialise.xxh3_128": "0" * 32}, "[0]": place}
    header |= dict(whole)
    return with_header(json.dumps(header), data)


def with_header(header, data=b"\0" * 4):
    header = header if isinstance(header, bytes) else header.encode()
    return len(header).to_bytes(8, "little") + header + data


def test_the_forged_file_loads_before_it_is_spoilt():
    assert load(forged(), [jnp.ones(1)], verify=False)[0] == 0


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "0 bytes"),
        (bytes(64), "a header with Expecting value"),
        ((2**63).to_bytes(8, "little") + bytes(99), f"a header of {2**63} bytes in a file of 107"),
        (with_header(b"\xff\xfe"), "a header with 'utf-8' codec"),
        (with_header(b"\xef\xbb\xbf{}"), "a header with Unexpected UTF-8 BOM"),
        (with_header("[]"), "something else than a JSON object"),
        (with_header("[" * 100_000), "a header with"),
        (with_header('{"a":' * 100_000), "a header with"),
        (with_header('{"a":NaN}'), "the number NaN"),
        (with_header('{"a":1,"a":1}'), "one key twice"),
        (with_header('{"a":' + "9" * 5000 + "}"), "a header with Exceeds the limit"),
        (forged({"__metadata__": 3}), "metadata that is no JSON object"),
        (forged({"__metadata__": {"eqx_serialise": 3}}), "metadata that is no string"),
        (forged({"__metadata__": {"eqx_serialise": "{"}}), "a header with Expecting"),
        (forged(ours={"dtypes": 3}), "no dtypes or weak leaves"),
        (forged(ours={"weak": "[0]"}), "no dtypes or weak leaves"),
        (forged(ours={"values": []}), "no values"),
        (forged(ours={"dtypes": {"[1]": "float32"}}), "dtypes of other tensors"),
        (
            forged({"__metadata__": {"eqx_serialise": '{"version":1,"values":{}}'}}),
            "digests of other tensors",
        ),
        (forged(ours={"values": {"[0]": {"int": 1}}}), "one leaf twice"),
        (forged(ours={"values": {"a": {"int": "z"}}}), "a header with invalid literal"),
        (forged(ours={"values": {"a": {"int": True}}}), "{'int': True} as a Python value"),
        (forged(ours={"values": {"a": {"set": "1"}}}), "{'set': '1'} as a Python value"),
        (forged(ours={"nodes": []}), "no nodes or static values"),
        (forged(ours={"nodes": {".": {"schema": 1}}}), "a node that is not described"),
        (forged(ours={"nodes": {".": {"class": "list", "schema": 0}}}), "a schema below 1"),
        (forged(ours={"nodes": {".": {"class": "list", "schema": True}}}), "a schema below 1"),
        (forged(ours={"static": {"a": nested(100)}}), "static values that are nested too deeply"),
        (
            forged({"__metadata__": {"eqx_serialise": '{"version":1,"values":{}}', "a": 1}}),
            "metadata that is no string",
        ),
        (forged(tensor={"shape": 3}), "a tensor that is not described"),
        (forged(tensor={"shape": [-1]}), "sizes below 0"),
        (forged(tensor={"shape": [1.0]}), "sizes below 0"),
        (forged(tensor={"shape": [True]}), "sizes below 0"),
        (forged(tensor={"shape": [2]}), "a shape unlike its size"),
        (forged(tensor={"shape": [2**62, 4]}), "an impossible shape"),
        (forged(tensor={"shape": [0, 2**70]}), "an impossible shape"),
        (forged(tensor={"shape": [1] * 70}), "an impossible shape"),
        (forged(tensor={"data_offsets": [4, 0]}), "a shape unlike its size"),
        (forged(tensor={"data_offsets": [1, 5]}), "a gap or an overlap at byte 0"),
        (forged(tensor={"data_offsets": [0, 2**45], "shape": [2**43]}), "bytes, where its header"),
        (forged(ours={"dtypes": {"[0]": 3}}), "3 stored as F32"),
        (forged(tensor={"dtype": "F99"}), "dtype 'F99'"),
        (forged(ours={"dtypes": {"[0]": "float64"}}), "float64 stored as F32"),
        (forged(ours={"dtypes": {"[0]": "os.system"}}), "dtype 'os.system'"),
        (forged(ours={"dtypes": {"[0]": "complex64"}}), "complex64 without its pairs"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
@pytest.mark.parametrize("verify", [True, False])
def test_a_header_that_makes_no_sense_is_refused(content, found, verify):
    with pytest.raises(KIND) as error:
        load(content, [jnp.ones(1)], verify=verify)
    if not verify:
        assert found in str(error.value)


@pytest.mark.parametrize("verify", [True, False])
def test_a_file_of_another_kind_is_refused(verify):
    content = safetensors.serialize({}) if verify else with_header("{}", b"")
    with pytest.raises(KIND, match=r"must be a file that `eqx_serialise.save` wrote; got"):
        load(content, {}, verify=verify)


def test_another_version_of_the_format_is_refused():
    with pytest.raises(KIND, match=r"must be in version 1 of the format; got 2\. Update eqx-"):
        load(forged(ours={"version": 2}), [jnp.ones(1)], verify=False)


def test_what_a_later_release_adds_is_ignored():
    content = forged(ours={"new": 1})
    assert load(content, [jnp.ones(1)], verify=False)[0] == 0


@pytest.mark.parametrize("dtype", ["key<nobody>", "key<rbg>"])
def test_keys_that_jax_does_not_know_are_refused(dtype):
    tensor = {"dtype": "U32", "shape": [2], "data_offsets": [0, 8]}
    content = forged(tensor=tensor, ours={"dtypes": {"[0]": dtype}}, data=bytes(8))
    with pytest.raises(KIND, match=f"PRNG keys that JAX knows; got `{dtype}` in a tensor of shape"):
        load(content, [jr.key(0)], verify=False)


def test_a_file_rewritten_by_another_program_is_trusted_only_on_request(content):
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    data = content[8 + length :]
    rewritten = with_header(json.dumps(dict(reversed(header.items()))), data)
    with pytest.raises(KIND, match=r"without its seal\. If another program rewrote it, pass"):
        load(rewritten)
    np.testing.assert_array_equal(load(rewritten, verify=False)["w"], TREE["w"])
