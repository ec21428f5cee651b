"""The header of a checkpoint: what is written about its tensors.

A checkpoint is a safetensors file: 8 bytes that say how long the header is, the header (JSON, then
spaces up to a multiple of 64 bytes), the tensors one after another. The header maps the name of
each tensor to its dtype, shape and place, and `__metadata__` to strings. Ours are:

* `eqx_serialise.seal`, always first: the digest of the length and the header, with zeros in place of
  the seal itself. So no bit of either can change unnoticed.
* `eqx_serialise.xxh3_128`, always second: the digests of the tensors' bytes, one after another, in
  the order in which the header names the tensors.
* `eqx_serialise`: JSON again. `version` of this format; `dtypes` (of those leaves whose tensors have
  a dtype of safetensors that usually stands for another); `weak` (the leaves whose dtype gives way to
  others); `values` (the leaves that are Python values); `nodes` (the class of each node of the tree,
  and its schema); `static` (what is no leaf here but decides what a model computes, as far as JSON
  can say it). Names of classes and functions are there to be compared and are never imported.

The other strings belong to the user. A reader ignores what it does not know in `eqx_serialise`;
`version` changes when that would be wrong.

A digest is XXH3-128 with seed 0 in its canonical form: 32 hexadecimal digits, big-endian. It is to
find accidents, for which 128 bits are as good as 256; whoever forges a file can reckon any digest
anew. It takes a tenth of the time of SHA-256, or less.

Source: the safetensors format, https://huggingface.co/docs/safetensors.
"""

import json
import math
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import xxhash

from ._checkpoint_error import CheckpointError, damaged
from ._dtypes import ITEM_SIZES, STORED_AS, USUAL, is_possible
from ._header_memory import check_memory, memory, room
from ._structure import Node, Structure
from ._without_collection import without_collection

OURS = "eqx_serialise"
SEAL = "eqx_serialise.seal"
DIGESTS = "eqx_serialise.xxh3_128"
LENGTH_BYTES = 8
MAX_LENGTH = 100_000_000  # Every reader of safetensors refuses a longer header.
VERSION = 1
_ALIGNMENT = 64
_DEEPEST = 24
_DIGEST_LENGTH = 32
_NO_DIGEST = "0" * _DIGEST_LENGTH
_START = f'{{"__metadata__":{{"{SEAL}":"'.encode()
_SEAL_PLACE = slice(len(_START), len(_START) + _DIGEST_LENGTH)
_DIGESTS_START = _SEAL_PLACE.stop + len(f'","{DIGESTS}":"')
_PLACE = operator.attrgetter("start", "stop")
_PLACE_KEYS = {"dtype", "shape", "data_offsets"}


class Tensor(NamedTuple):
    """One tensor: its name, the dtype of its leaf, its own shape, its place among the tensors' bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int
    weak: bool = False
    digest: str = _NO_DIGEST


@dataclass(frozen=True)
class Header:
    """What a file holds, by the name of the leaf; and the words that its writer added."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]
    structure: Structure
    metadata: dict[str, str]

    @property
    def parts(self) -> int:
        """Leaves, nodes and static values together."""
        structure = self.structure
        return sum(map(len, (self.tensors, self.values, structure.nodes, structure.static)))

    @property
    def data_size(self) -> int:
        """Bytes of all tensors together."""
        return max((tensor.stop for tensor in self.tensors.values()), default=0)


def stored_as(dtype: str) -> str:
    """Return the safetensors type for the dtype of a leaf.

    Raises:
      ValueError: There is none.
    """
    if dtype.startswith("key<"):
        return "U32"
    if dtype not in STORED_AS:
        raise ValueError(f"dtype {dtype[:40]!r}")
    return STORED_AS[dtype]


def header_to_bytes(header: Header) -> bytearray:
    """Return the length and the header: how a file starts, but for the digests, which `seal` fills in.

    Raises:
      ValueError: It would be longer than readers take, or take more memory than `load` allows it.
    """
    ours = {
        "version": VERSION,
        "dtypes": {x.name: x.dtype for x in header.tensors.values() if USUAL[stored_as(x.dtype)] != x.dtype},
        "weak": [x.name for x in header.tensors.values() if x.weak],
        "values": header.values,
        "nodes": {name: _about_node(node) for name, node in header.structure.nodes.items()},
        "static": header.structure.static,
    }
    no_digests = {SEAL: _NO_DIGEST, DIGESTS: _NO_DIGEST * len(header.tensors)}
    whole: dict[str, Any] = {"__metadata__": {**no_digests, OURS: _to_json(ours), **header.metadata}}
    for name, tensor in header.tensors.items():
        whole[name] = {
            "dtype": stored_as(tensor.dtype),
            "shape": tensor.shape,
            "data_offsets": (tensor.start, tensor.stop),
        }
    text = _to_json(whole).encode()
    text += b" " * (-(LENGTH_BYTES + len(text)) % _ALIGNMENT)
    if len(text) > MAX_LENGTH:
        raise ValueError(
            f"`save(tree)` must need a header of at most {MAX_LENGTH} bytes; got {len(text)}. "
            "Save fewer leaves or less metadata."
        )
    if memory(text) + memory(whole["__metadata__"][OURS].encode()) > room(len(text) + header.data_size, header.parts):
        raise ValueError(
            "`save(tree)` must need less memory for its header than `load` allows it; got metadata or static values "
            f"of {len(text)} bytes. Save large values as arrays."
        )
    return bytearray(len(text).to_bytes(LENGTH_BYTES, "little") + text)


def seal(content: bytearray, digests: Iterable[str]) -> memoryview:
    """Fill the digests of the tensors, and that of the header, into what `header_to_bytes` returned.

    Returns:
      The part of it that has changed: its first bytes.
    """
    text = memoryview(content)[LENGTH_BYTES:]
    known = "".join(digests).encode()
    stop = _DIGESTS_START + len(known)
    text[_DIGESTS_START:stop] = known
    text[_SEAL_PLACE] = _seal(text).encode()
    return memoryview(content)[: LENGTH_BYTES + stop]


def _about_node(node: Node) -> dict[str, Any]:
    return {"class": node.cls} if node.schema == 1 else {"class": node.cls, "schema": node.schema}


def header_from_bytes(text: bytes, call: str, *, allowed: int, verify: bool) -> Header:
    """Return what a header says, after checking that it is whole and makes sense.

    Args:
      call: What errors call the reading of the file, for example `load(path_or_file='model')`.
      allowed: Bytes of memory. A header that would take more is not parsed.

    Raises:
      CheckpointError: It is not, or does not.
    """
    if verify and not text.startswith(_START):
        raise CheckpointError(
            f"`{call}` must be a file that `eqx_serialise.save` wrote; got one "
            "without its seal. If another program rewrote it, pass `verify=False` to trust it."
        )
    if verify and text[_SEAL_PLACE] != _seal(text).encode():
        raise damaged(call, "a header that has changed")
    try:
        with without_collection():
            return _parse(text, call, allowed)
    except CheckpointError:
        raise
    except (ValueError, RecursionError) as error:
        raise damaged(call, f"a header with {str(error)[:200]}") from error


def _to_json(content: dict[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class _Place(NamedTuple):
    """What safetensors says of a tensor."""

    dtype: Any
    shape: Any
    data_offsets: Any


def _from_json(text: bytes, hook: Callable[[list[tuple[str, Any]]], Any]) -> dict[str, Any]:
    decoded = text.decode()
    content = json.loads(decoded, object_pairs_hook=hook, parse_constant=_no_number)
    _expect(isinstance(content, dict), "something else than a JSON object")
    # Half a surrogate pair, which only an escape can write, is no text to any other reader.
    _expect(("\\ud" not in decoded and "\\uD" not in decoded) or _is_text(content), "half a surrogate pair")
    return content


def _is_text(content: dict[str, Any]) -> bool:
    try:
        return bool(_to_json(content).encode())
    except UnicodeEncodeError:
        return False


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    _expect(len(content) == len(pairs), "one key twice")
    return content


def _place_or_unique(pairs: list[tuple[str, Any]]) -> Any:
    """Return what describes a tensor as a tuple, which is smaller than a dictionary, and what else there is as that."""
    content = _unique(pairs)
    return _Place(**content) if content.keys() == _PLACE_KEYS else content


def _no_number(text: str) -> None:
    raise ValueError(f"the number {text}")


def _seal(text: bytes | memoryview) -> str:
    digest = xxhash.xxh3_128(len(text).to_bytes(LENGTH_BYTES, "little"))
    digest.update(text[: _SEAL_PLACE.start])
    digest.update(_NO_DIGEST.encode())
    digest.update(memoryview(text)[_SEAL_PLACE.stop :])
    return digest.hexdigest()


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)


def _parse(text: bytes, call: str, allowed: int) -> Header:
    needed = memory(text)
    check_memory(needed, allowed, call)
    whole = _from_json(text, _place_or_unique)
    metadata = whole.pop("__metadata__", {})
    _expect(isinstance(metadata, dict), "metadata that is no JSON object")
    if OURS not in metadata:
        raise CheckpointError(
            f"`{call}` must be a file that `eqx_serialise.save` wrote; got "
            "another safetensors file. Open it with the package `safetensors`."
        )
    _expect(all(type(value) is str for value in metadata.values()), "metadata that is no string")
    inner = metadata[OURS].encode()
    check_memory(needed + memory(inner), allowed, call)
    ours = _from_json(inner, _unique)
    if ours.get("version") != VERSION:
        raise CheckpointError(
            f"`{call}` must be in version {VERSION} of the format; got "
            f"{ours.get('version')!r:.40}. Update eqx-serialise."
        )
    values = ours.get("values")
    if not isinstance(values, dict):
        raise ValueError("no values")
    _expect(not whole.keys() & values.keys(), "one leaf twice")
    tensors = _parse_tensors(whole, ours, metadata.get(DIGESTS, ""))
    users = {key: value for key, value in metadata.items() if not key.startswith(OURS)}
    return Header(tensors, values, _parse_structure(ours), users)


def _parse_tensors(whole: dict[str, Any], ours: dict[str, Any], digests: str) -> dict[str, Tensor]:
    """Replace what safetensors says of each tensor by a `Tensor`, in place: both at once would take more memory."""
    dtypes, weak = ours.get("dtypes", {}), ours.get("weak", [])
    if not isinstance(dtypes, dict) or not isinstance(weak, list):
        raise ValueError("no dtypes or weak leaves")
    _expect(len(digests) == len(whole) * _DIGEST_LENGTH, "digests of other tensors")
    _expect(whole.keys() >= dtypes.keys(), "dtypes of other tensors")
    yielding = {name for name in weak if isinstance(name, str)}
    for i, name in enumerate(whole):
        digest = digests[i * _DIGEST_LENGTH : (i + 1) * _DIGEST_LENGTH]
        whole[name] = _parse_tensor(name, whole[name], dtypes.get(name), name in yielding, digest)
    end = 0
    for tensor in sorted(whole.values(), key=_PLACE):
        _expect(tensor.start == end, f"a gap or an overlap at byte {end} of the tensors")
        end = tensor.stop
    return whole


def _parse_structure(ours: dict[str, Any]) -> Structure:
    nodes, static = ours.get("nodes", {}), ours.get("static", {})
    _expect(isinstance(nodes, dict) and isinstance(static, dict), "no nodes or static values")
    _expect(_is_flat(static), "static values that are nested too deeply")
    return Structure({name: _parse_node(node) for name, node in nodes.items()}, static)


def _is_flat(content: Any) -> bool:
    """Return whether nothing is nested deeper than `to_description` nests it."""
    level = [content]
    for _ in range(_DEEPEST):
        level = [x for y in level for x in (y.values() if isinstance(y, dict) else y if isinstance(y, list) else ())]
    return not level


def _parse_node(node: Any) -> Node:
    match node:
        case {"class": str(cls), **rest}:
            schema = rest.get("schema", 1)
            _expect(type(schema) is int and schema >= 1, "a schema below 1")
            return Node(cls, schema)
    raise ValueError("a node that is not described")


def _parse_tensor(name: str, place: Any, dtype: Any, weak: bool, digest: str) -> Tensor:
    # No `match`, which takes several times as long: there may be 100,000 tensors.
    if type(place) is not _Place:
        raise ValueError("a tensor that is not described")
    stored, shape, offsets = place
    if not (type(stored) is str and type(shape) is list and type(offsets) is list and len(offsets) == 2):
        raise ValueError("a tensor that is not described")
    start, stop = offsets
    numbers = (*shape, start, stop)
    _expect(set(map(type, numbers)) == {int} and min(numbers) >= 0, "sizes below 0")
    _expect(stored in USUAL, f"dtype {stored[:40]!r}")
    dtype = USUAL[stored] if dtype is None else dtype
    if type(dtype) is not str or stored_as(dtype) != stored:
        raise ValueError(f"{str(dtype)[:40]} stored as {stored[:40]}")
    _expect(is_possible(shape, ITEM_SIZES[stored]), "an impossible shape")
    _expect(not dtype.startswith("complex") or shape[-1:] == [2], f"{dtype} without its pairs")
    _expect(math.prod(shape) * ITEM_SIZES[stored] == stop - start, "a shape unlike its size")
    return Tensor(name, dtype, tuple(shape), start, stop, weak, digest)
