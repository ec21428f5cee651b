"""Tell an argument that was left out from one that is None."""

from typing import Any


class _Unset:
    def __repr__(self) -> str:
        return "<unset>"


UNSET: Any = _Unset()
