"""Let the instances of a class take their name's module and documentation from what they wrap."""

from typing import Any


class _Borrowed:
    """An attribute that an instance takes from what it wraps, and the class has for itself."""

    def __init__(self, name: str, lender: str, of_class: Any):
        self.name = name
        self.lender = lender
        self.of_class = of_class

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self.of_class if instance is None else getattr(getattr(instance, self.lender), self.name)


class _BorrowedModule(str):
    """The same for `__module__`, which Python wants to be a string on a class."""

    lender: str

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else getattr(instance, self.lender).__module__

    def __reduce__(self) -> Any:
        # A class is pickled by the name of its module, which has to be an ordinary string by then.
        return str, (str(self),)


def borrow_attributes(cls: type, lender: str) -> None:
    """Let instances of `cls` look up `__doc__`, `__annotations__` and `__module__` on their attribute `lender`.

    Looking up is free until it is done. The copies that `module_update_wrapper` makes are part of the PyTree instead,
    and are flattened and compared with it.
    """
    module = _BorrowedModule(cls.__module__)
    module.lender = lender
    type.__setattr__(cls, "__doc__", _Borrowed("__doc__", lender, cls.__doc__))
    type.__setattr__(cls, "__annotations__", _Borrowed("__annotations__", lender, cls.__annotations__))
    type.__setattr__(cls, "__module__", module)
