"""One array <-> one record of NumPy's `.npy` format.

Source: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
"""

import functools
import io
import math
import tokenize
from typing import IO, Any

import numpy as np

_MAGIC = b"\x93NUMPY"
# Version of the format -> bytes that say how long the header is. Versions 2 and 3 are for structured
# dtypes, and 3 only for names in them that are not ASCII.
_LENGTH_BYTES = {(1, 0): 2, (2, 0): 4}
_LONGEST = 10_000  # Bytes of a header: it is parsed as Python, and NumPy has the same limit.


def write_npy(file: IO[bytes], array: Any) -> None:
    """Write an array to where `file` stands, byte for byte as `numpy.save` does.

    Raises:
      ValueError: The array holds Python objects.
    """
    array = np.asanyarray(array)
    if array.dtype.hasobject:
        raise ValueError(f"an array of Python objects, of dtype {array.dtype}, which could only be pickled")
    np.lib.format.write_array(file, array, allow_pickle=False)


def read_npy(file: IO[bytes]) -> np.ndarray:
    """Return the array of the record at which `file` stands, and leave the file behind it.

    Nothing is allocated before it is known to be there, and nothing is unpickled.

    Raises:
      ValueError: There is no whole record.
    """
    start = _exactly(file, len(_MAGIC) + 2).tobytes()
    if start[:-2] != _MAGIC:
        raise ValueError(f"no array: bytes {start.hex()}")
    version = (start[-2], start[-1])
    if version not in _LENGTH_BYTES:
        raise ValueError(f"an array in version {version} of the npy format")
    length = _exactly(file, _LENGTH_BYTES[version]).tobytes()
    size = int.from_bytes(length, "little")
    if size > _LONGEST:
        raise ValueError(f"a header of {size} bytes")
    shape, is_fortran, dtype = _parsed(version, length + _exactly(file, size).tobytes())
    raw = _exactly(file, math.prod(shape) * dtype.itemsize)
    return np.ndarray(shape, dtype, raw, order="F" if is_fortran else "C")


# Leaves of one shape have one header, and NumPy takes longer to parse it than to read a small leaf.
@functools.lru_cache(maxsize=4096)
def _parsed(version: tuple[int, int], header: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    parse = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    # What NumPy writes for float8_e5m2, and does not read.
    header = header.replace(b"'<f1'", b"'|V1'")
    try:
        shape, is_fortran, dtype = parse(io.BytesIO(header), max_header_size=_LONGEST)
    except (ValueError, TypeError, RecursionError, MemoryError, tokenize.TokenError) as error:
        raise ValueError(f"no header of an array: {str(error)[:200]}") from error
    if dtype.hasobject:
        raise ValueError("an array of Python objects, which would have to be unpickled")
    if any(size < 0 for size in shape):
        raise ValueError(f"an array of shape {shape}")
    return shape, is_fortran, dtype


def _exactly(file: IO[bytes], size: int) -> np.ndarray:
    """Return the next `u8[size]`."""
    here = file.tell()
    left = file.seek(0, io.SEEK_END) - here
    file.seek(here)
    if left < size:
        raise ValueError(f"the end of the file, {size - left} bytes early")
    content = np.empty(size, np.uint8)
    view = content.data
    while view:
        count = _read_into(file, view)
        if not count:
            raise ValueError(f"the end of the file, {len(view)} bytes early")
        view = view[count:]
    return content


def _read_into(file: Any, view: memoryview) -> int:
    if hasattr(file, "readinto"):
        return file.readinto(view)
    some = file.read(len(view))
    view[: len(some)] = some
    return len(some)
