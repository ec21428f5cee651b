"""The header of a checkpoint: what is written about its tensors.

A checkpoint is a safetensors file: 8 bytes that say how long the header is, the header (JSON, then
spaces up to a multiple of 64 bytes), the tensors one after another. The header maps the name of
each tensor to its dtype, shape and place, and `__metadata__` to strings. Ours are:

* `eqx_serialise.seal`, always first: SHA-256 of the length and the header, with zeros in place of
  the seal itself. So no bit of either can change unnoticed.
* `eqx_serialise`: JSON again. `version` of this format; `tensors` (the dtype of the leaf, `weak` if
  it gives way to others, the SHA-256 of its bytes); `values` (the leaves that are Python values);
  `nodes` (the class of each node of the tree, and its schema); `static` (what is no leaf here but
  decides what a model computes, as far as JSON can say it). Names of classes and functions are
  there to be compared and are never imported.

The other strings belong to the user. A reader ignores what it does not know in `eqx_serialise`;
`version` changes when that would be wrong.

Source: the safetensors format, https://huggingface.co/docs/safetensors.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

from ._checkpoint_error import CheckpointError, damaged
from ._dtypes import ITEM_SIZES, STORED_AS, is_possible
from ._structure import Node, Structure
from ._without_collection import without_collection

OURS = "eqx_serialise"
SEAL = "eqx_serialise.seal"
LENGTH_BYTES = 8
MAX_LENGTH = 100_000_000  # Every reader of safetensors refuses a longer header.
VERSION = 1
_SPARE = 64_000_000  # Bytes of memory that reading a header may take beyond the size of the file.
_PART = 100  # Bytes that Python takes for a number, a string or a list of a header.
_ALIGNMENT = 64
_DEEPEST = 24
_DIGEST_LENGTH = hashlib.sha256().digest_size * 2
_NO_DIGEST = "0" * _DIGEST_LENGTH
_START = f'{{"__metadata__":{{"{SEAL}":"'.encode()
_SEAL_PLACE = slice(len(_START), len(_START) + _DIGEST_LENGTH)


@dataclass(frozen=True)
class Tensor:
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


def header_to_bytes(header: Header) -> bytes:
    """Return the length and the header, sealed: how a file starts.

    As long with any digests as with others, so its size is known before the tensors are read.
    """
    ours = {
        "version": VERSION,
        "tensors": {name: _about(tensor) for name, tensor in header.tensors.items()},
        "values": header.values,
        "nodes": {name: _about_node(node) for name, node in header.structure.nodes.items()},
        "static": header.structure.static,
    }
    whole: dict[str, Any] = {
        "__metadata__": {SEAL: _NO_DIGEST, OURS: _to_json(ours), **header.metadata},
    }
    for name, tensor in header.tensors.items():
        whole[name] = {
            "dtype": stored_as(tensor.dtype),
            "shape": tensor.shape,
            "data_offsets": (tensor.start, tensor.stop),
        }
    text = _to_json(whole).encode()
    if len(text) <= MAX_LENGTH and _memory(text) > _SPARE + header.data_size:
        raise ValueError(
            "`save(tree)` must need less memory for its header than for its arrays, or 64 MB; got "
            f"{len(header.tensors) + len(header.values)} leaves of {header.data_size} bytes in all. "
            "Stack leaves of one shape."
        )
    text += b" " * (-(LENGTH_BYTES + len(text)) % _ALIGNMENT)
    return len(text).to_bytes(LENGTH_BYTES, "little") + _with_seal(text, _seal(text))


def _about(tensor: Tensor) -> dict[str, Any]:
    about = {"dtype": tensor.dtype, "sha256": tensor.digest}
    return about | {"weak": True} if tensor.weak else about


def _about_node(node: Node) -> dict[str, Any]:
    return {"class": node.cls} if node.schema == 1 else {"class": node.cls, "schema": node.schema}


def header_from_bytes(text: bytes, call: str, *, size: int, verify: bool) -> Header:
    """Return what a header says, after checking that it is whole and makes sense.

    Args:
      call: What errors call the reading of the file, for example `load(path_or_file='model')`.
      size: Bytes of the file. A header that would take much more memory than that is not parsed.

    Raises:
      CheckpointError: It is not, or does not.
    """
    if verify and not text.startswith(_START):
        raise CheckpointError(
            f"`{call}` must be a file that `eqx_serialise.save` wrote; got one "
            "without its seal. If another program rewrote it, pass `verify=False` to trust it."
        )
    if verify and text[_SEAL_PLACE] != _seal(_with_seal(text, _NO_DIGEST)).encode():
        raise damaged(call, "a header that has changed")
    try:
        with without_collection():
            return _parse(text, call, _SPARE + size)
    except CheckpointError:
        raise
    except (ValueError, RecursionError) as error:
        raise damaged(call, f"a header with {str(error)[:200]}") from error


def _to_json(content: dict[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def longest_header(size: int) -> int:
    """Return how many bytes of a file of `size` bytes may be its header."""
    return min(MAX_LENGTH, (_SPARE + size) // 4, size - LENGTH_BYTES)


def _memory(text: bytes | str) -> int:
    """Return about the most bytes of memory that it takes to parse a header."""
    # A letter beyond ASCII makes every letter of a Python string wider.
    parts = sum(text.count(mark.encode() if isinstance(text, bytes) else mark) for mark in ",:[{")  # type: ignore
    return len(text) * (4 if text.isascii() else 10) + _PART * parts


def _from_json(text: bytes | str, room: int) -> dict[str, Any]:
    _expect(_memory(text) <= room, "so many parts that they would take more memory than the file")
    text = text.decode() if isinstance(text, bytes) else text
    content = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number)
    _expect(isinstance(content, dict), "something else than a JSON object")
    # Half a surrogate pair, which only an escape can write, is no text to any other reader.
    _expect(("\\ud" not in text and "\\uD" not in text) or _is_text(content), "half a surrogate pair")
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


def _no_number(text: str) -> None:
    raise ValueError(f"the number {text}")


def _with_seal(text: bytes, seal: str) -> bytes:
    return text[: _SEAL_PLACE.start] + seal.encode() + text[_SEAL_PLACE.stop :]


def _seal(text: bytes) -> str:
    return hashlib.sha256(len(text).to_bytes(LENGTH_BYTES, "little") + text).hexdigest()


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)


def _parse(text: bytes, call: str, room: int) -> Header:
    whole = _from_json(text, room)
    metadata = whole.pop("__metadata__", {})
    _expect(isinstance(metadata, dict), "metadata that is no JSON object")
    if OURS not in metadata:
        raise CheckpointError(
            f"`{call}` must be a file that `eqx_serialise.save` wrote; got "
            "another safetensors file. Open it with the package `safetensors`."
        )
    _expect(isinstance(metadata[OURS], str), "metadata that is no string")
    ours = _from_json(metadata[OURS], room)
    if ours.get("version") != VERSION:
        raise CheckpointError(
            f"`{call}` must be in version {VERSION} of the format; got "
            f"{ours.get('version')!r:.40}. Update eqx-serialise."
        )
    about, values = ours.get("tensors"), ours.get("values")
    if not isinstance(about, dict) or not isinstance(values, dict):
        raise ValueError("no tensors or values")
    _expect(about.keys() == whole.keys(), "tensors that its metadata does not know")
    _expect(not about.keys() & values.keys(), "one leaf twice")
    tensors = {name: _parse_tensor(name, whole[name], about[name]) for name in about}
    end = 0
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.start, tensor.stop)):
        _expect(tensor.start == end, f"a gap or an overlap at byte {end} of the tensors")
        end = tensor.stop
    return Header(tensors, values, _parse_structure(ours), _users(metadata))


def _users(metadata: dict[str, Any]) -> dict[str, str]:
    _expect(all(type(value) is str for value in metadata.values()), "metadata that is no string")
    return {key: value for key, value in metadata.items() if not key.startswith(OURS)}


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


def _parse_tensor(name: str, place: Any, about: Any) -> Tensor:
    # No `match`, which takes several times as long: there may be 100,000 tensors.
    if not (isinstance(place, dict) and isinstance(about, dict)):
        raise ValueError("a tensor that is not described")
    stored, shape, offsets = place.get("dtype"), place.get("shape"), place.get("data_offsets")
    dtype, digest = about.get("dtype"), about.get("sha256")
    if not (
        isinstance(stored, str)
        and isinstance(dtype, str)
        and isinstance(digest, str)
        and isinstance(shape, list)
        and isinstance(offsets, list)
        and len(offsets) == 2
    ):
        raise ValueError("a tensor that is not described")
    start, stop = offsets
    _expect(all(type(n) is int and n >= 0 for n in (*shape, start, stop)), "sizes below 0")
    _expect(stored_as(dtype) == stored, f"{dtype} stored as {stored}")
    _expect(is_possible(shape, ITEM_SIZES[stored]), "an impossible shape")
    _expect(not dtype.startswith("complex") or shape[-1:] == [2], f"{dtype} without its pairs")
    _expect(math.prod(shape) * ITEM_SIZES[stored] == stop - start, "a shape unlike its size")
    return Tensor(name, dtype, tuple(shape), start, stop, about.get("weak") is True, digest)
