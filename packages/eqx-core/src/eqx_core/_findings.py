"""Report by path: what `tree_diff` and `tree_doctor` return."""

import dataclasses
from typing import Any, ClassVar

import jax

from ._is_array import is_array
from ._text_table import text_table
from ._tree_pformat import tree_pformat

_SHORT = 60


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing found in a PyTree.

    Attributes:
      path: Where, as `jax.tree_util.keystr` writes it: `.layers[0].weight`; empty for the root.
      kind: What it is, in one word.
      message: What was found, and what to do about it.
    """

    path: str
    kind: str
    message: str

    def __str__(self) -> str:
        return f"{self.path or '(root)'}: {self.kind}: {self.message}"


class Findings(tuple[Finding, ...]):
    """What was found, in the order of the tree: a tuple, so that it is false if there is nothing."""

    __slots__ = ()
    nothing: ClassVar[str] = "Nothing found."

    def __str__(self) -> str:
        if not self:
            return self.nothing
        return "\n".join(text_table([(f.path or "(root)", f.kind, f.message) for f in self]))

    def __repr__(self) -> str:
        return str(self)


def short(value: Any) -> str:
    """Describe a value in a few characters: an array by dtype and shape only."""
    if is_array(value) or isinstance(value, jax.ShapeDtypeStruct):
        return tree_pformat(value, struct_as_array=True)
    text = " ".join(tree_pformat(value, struct_as_array=True, width=10**6).split())
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 1]}…"
