"""What `first_nan` reports: `NonFinite`, with a `ValueRange` for each array that took part."""

import dataclasses
import linecache
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

# How many of the innermost frames are printed.
_SHOWN = 4


@dataclasses.dataclass(frozen=True)
class ValueRange:
    """What an array holds, in short.

    Attributes:
      name: Which leaf of the arguments it is, if it is one, or only another view of one.
      dtype: Such as "float32".
      shape: Its shape.
      min: The smallest finite entry, of complex ones by modulus; None if there is none.
      max: The largest finite entry, likewise.
      nan: How many entries are NaN.
      inf: How many are plus or minus Inf.
    """

    name: str | None
    dtype: str
    shape: tuple[int, ...]
    min: float | None
    max: float | None
    nan: int
    inf: int

    def __str__(self) -> str:
        dtype = self.dtype.replace("bfloat", "bf").replace("float", "f").replace("complex", "c")
        text = f"{dtype}[{','.join(map(str, self.shape))}]"
        if self.min is not None:
            text += f" = {self.min:.6g}" if self.min == self.max else f" from {self.min:.6g} to {self.max:.6g}"
        counts = [f"{count} {what}" for count, what in ((self.nan, "NaN"), (self.inf, "Inf")) if count]
        if counts:
            text += f", {' and '.join(counts)} of {int(np.prod(self.shape))}"
        return text if self.name is None else f"{text}   `{self.name}`"


def range_of(x: Any, name: str | None = None) -> ValueRange:
    """Return the range of an array whose value is known."""
    aval = jax.typeof(x)
    shape, dtype = tuple(aval.shape), aval.dtype
    finite = nan = inf = np.zeros(0)
    if jnp.issubdtype(dtype, jnp.number) or dtype == np.bool_:
        values = _as_numpy(x)
        nan, inf = np.isnan(values), np.isinf(values)
        finite = np.abs(values) if values.dtype.kind == "c" else values
        finite = finite[~(nan | inf)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (None, None)
    return ValueRange(name, str(dtype), shape, low, high, int(nan.sum()), int(inf.sum()))


def holds(x: Any) -> tuple[bool, bool]:
    """Tell whether an array has a NaN, and whether it has an Inf."""
    # What is no array is a number that stands in the program, or a token.
    if not isinstance(x, float) and not jnp.issubdtype(getattr(x, "dtype", np.bool_), jnp.inexact):
        return False, False
    values = _as_numpy(x)
    if np.isfinite(values).all():
        return False, False
    return bool(np.isnan(values).any()), bool(np.isinf(values).any())


def _as_numpy(x: Any) -> np.ndarray:
    values = np.asarray(x)
    # NumPy knows what to do with floats of less than 16 bits, and with bfloat16, only in part.
    return values if values.dtype.kind in "biufc" else values.astype(np.float32)


@dataclasses.dataclass(frozen=True)
class NonFinite:
    """The first value that is not finite, and where it comes from. Printed, it is a few lines to read.

    Attributes:
      kind: "NaN"; "overflow", an Inf that is too large a number; or "Inf", any other, such as of `1 / 0` or `log(0)`.
      stage: "input", if an argument has it; else "forward" or "backward", the latter for gradients alone.
      module: The part of the model that was called, as `model.layers[3].norm`; for an input, the leaf. None if no Module
        among the arguments has made the call.
      primitive: The operation of JAX; None for an input.
      frames: The calls that it is in, as far as JAX knows, innermost last: of each the file, the line and the function.
      steps: The loops around it, outermost first: of each the primitive, `"scan"` or `"while"`, and the iteration, from 0.
      inputs: What went into the operation.
      output: What came out of it.
    """

    kind: Literal["NaN", "Inf", "overflow"]
    stage: Literal["input", "forward", "backward"]
    module: str | None
    primitive: str | None
    frames: tuple[tuple[str, int, str], ...]
    steps: tuple[tuple[str, int], ...]
    inputs: tuple[ValueRange, ...]
    output: ValueRange

    def __str__(self) -> str:
        if self.stage == "input":
            return f"{self.kind} in the input `{self.module}`\n  {dataclasses.replace(self.output, name=None)}{self._hint()}"
        where = f", in `{self.module}`" if self.module else ""
        steps = "".join(f", step {i} of a {loop}" for loop, i in reversed(self.steps))
        lines = [f"{self.kind} in the {self.stage} pass{where}{steps}"]
        for file, line, function in self.frames[-_SHOWN:]:
            lines += [f'  File "{file}", line {line}, in {function}', f"    {linecache.getline(file, line).strip()}"]
        lines += [f"  {self.primitive}", *(f"    in   {each}" for each in self.inputs), f"    out  {self.output}"]
        return "\n".join(line for line in lines if line.strip()) + self._hint()

    def _hint(self) -> str:
        if self.kind == "NaN":
            return ""
        return "\n  If it is meant to be there, look for NaN alone: `first_nan(fn, inf=False)`."
