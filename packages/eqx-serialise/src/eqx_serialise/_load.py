"""Read a PyTree back from a safetensors file, leaf by named leaf."""

import os
from collections.abc import Callable, Mapping
from typing import IO, Any, TypeVar

import jax.tree_util as jtu
import numpy as np

from ._cast import Cast, converted, is_cast
from ._checkpoint_error import CheckpointError
from ._differences import differences
from ._migrate import migrate
from ._names import named_leaves
from ._only import Only, picker
from ._opened import Source, opened
from ._paths import range_below, relative
from ._read import Checkpoint, open_checkpoint
from ._rename import Rename, new_name, renamed
from ._restore import to_jax, to_numpy
from ._spec import spec_of
from ._stored_leaves import read_leaves, spec_in_file, stored_leaves
from ._structure import Structure, structure
from ._without_collection import without_collection

_T = TypeVar("_T")
_Leaves = dict[str, Any]


def load(
    path_or_file: str | os.PathLike[str] | IO[bytes],
    like: _T,
    *,
    strict: bool = True,
    verify: bool = True,
    mmap: bool = False,
    only: Only | None = None,
    rename: Rename | None = None,
    cast: Cast | None = None,
) -> _T:
    """Return `like` with its leaves read from a file that `save` wrote.

    Leaves are found by name, never by order, and must be the same ones: none missing, none left
    over, each of the same shape and dtype; and static values must be those of the saved tree, as
    far as the file knows them. One error lists all that differs and says what to pass about it.
    Nothing is cast unless you say so, and no code in a file is ever run.

    Args:
      path_or_file: A path, used as it is. Or a binary file that can seek, read from where it stands
        up to the end of the checkpoint, so that one file may hold several.
      like: A model, or its shapes from `eqx_filter.filter_eval_shape` or `jax.eval_shape`, with
        shardings if you like. What comes back is what `like` has: NumPy arrays for NumPy arrays;
        Python values for Python values; JAX arrays for JAX arrays and `jax.ShapeDtypeStruct`, on
        the same devices where those were chosen, and as weakly typed. Leaves that `save` does not
        write, such as functions, are taken from `like`, which is left as it is.
      strict: False to keep those leaves of `like` that the file lacks, to leave those that only the
        file has, and to ignore other static values. Then at least one leaf must be found.
      verify: Whether every byte must be what was written, by the digests in the file, which
        takes a few hundredths of a second for each GB. They guard against accidents, not against forgery.
      mmap: True to map the file into memory, so that a leaf is read when it is looked at; with
        `verify=False` that is at no cost. The file must then stay as it is: if it is cut while it
        is mapped, the process dies.
      only: The leaves to load, by their names in `like`: a path, which stands for the leaf there and
        all below, and in which `*` stands for any letters and `?` for one; several of them; or a
        function from name to bool. The other leaves are those of `like`.
      rename: What leaves of the file are called in `like`: a mapping from names, or from paths above
        them; or a function. It comes after migrations. Where this or `only` is a function, which
        knows leaves alone, static values are not compared.
      cast: True to convert floats to floats and integers to integers where `like` has another
        dtype; or a function of a name and two dtypes, that of the file and that of `like`, to say
        which leaves to convert. A float is rounded; a number that does not fit is an error.

    Raises:
      CheckpointError: The file is damaged or not a checkpoint, its leaves are not those of `like`,
        or a class of `like` cannot read what an older or newer one wrote (see `migration`).
      RuntimeError: 64-bit JAX arrays are asked for, while JAX has none.
      TypeError: An argument is of the wrong kind.
      ValueError: `only` or `rename` have names that are not there; a sharding does not fit; or
        `mmap` is asked of a file that is not on disk.
      OSError: The file cannot be read.

    Example:
      >>> import io
      >>> file = io.BytesIO()
      >>> eqx_serialise.save(file, {"weight": jnp.arange(3.0)})
      >>> _ = file.seek(0)
      >>> eqx_serialise.load(file, like={"weight": jnp.zeros(3)})
      {'weight': Array([0., 1., 2.], dtype=float32)}
      >>> _ = file.seek(0)
      >>> eqx_serialise.load(file, like={"kernel": jnp.zeros(3)}, rename={"['weight']": "['kernel']"})
      {'kernel': Array([0., 1., 2.], dtype=float32)}
    """
    with without_collection():
        leaves, treedef = named_leaves(like, "load(like=...)")
        wanted = {name: spec for name, leaf in leaves.items() if (spec := spec_of(leaf)) is not None}
        theirs, classes = structure(like)
    parts = sum(map(len, (leaves, theirs.nodes, theirs.static)))
    picks = picker(only, wanted)
    with opened(path_or_file, "load") as source:
        checkpoint = open_checkpoint(source, verify=verify, mmap=mmap, parts=parts)
        found, migrated = _migrated(checkpoint, classes, verify=verify)
        found = {name: leaf for name, leaf in renamed(found, rename).items() if picks(name)}
        static = {} if callable(rename) or callable(only) else _static(checkpoint, theirs, migrated, rename, picks)
        wanted = {name: spec for name, spec in wanted.items() if picks(name)}
        casts = _check_same(found, wanted, static, strict, cast, source)
        found = {name: leaf for name, leaf in found.items() if name in wanted}
        values = read_leaves(checkpoint, found, verify=verify)
        source.file.seek(checkpoint.stop)
    values |= {name: _converted(values[name], leaves[name], name, source.call) for name in casts}
    return jtu.tree_unflatten(treedef, (leaves | _as_in_like(values, leaves, share=mmap)).values())


def _migrated(checkpoint: Checkpoint, classes: dict[str, type], *, verify: bool) -> tuple[_Leaves, list[str]]:
    """Return the leaves of the file under the names of today, and the nodes that were migrated."""
    return migrate(
        stored_leaves(checkpoint),
        checkpoint.header.structure.nodes,
        classes,
        lambda leaves: read_leaves(checkpoint, leaves, verify=verify),
        checkpoint.source.call,
    )


def _static(
    checkpoint: Checkpoint,
    theirs: Structure,
    migrated: list[str],
    rename: Mapping[str, str] | None,
    picks: Callable[[str], bool],
) -> dict[str, tuple[Any, Any]]:
    """Return the static values that are known of both and differ. Those of another schema may mean something else."""
    static = checkpoint.header.structure.static
    names, other_schema = sorted(static), set()
    for node in migrated:
        first, last = range_below(names, node)
        other_schema.update(name for name in names[first:last] if relative(name, node) is not None)
    ours = {new_name(name, rename or {}): static[name] for name in static if name not in other_schema}
    return {
        name: (value, theirs.static[name])
        for name, value in ours.items()
        if name in theirs.static and picks(name) and value != theirs.static[name]
    }


def _check_same(
    found: _Leaves,
    wanted: _Leaves,
    static: dict[str, tuple[Any, Any]],
    strict: bool,
    cast: Cast | None,
    source: Source,
) -> list[str]:
    """Return the names of the leaves to convert; raise an error if there are differences besides."""
    specs = {name: spec_in_file(leaf, source.call) for name, leaf in found.items()}
    casts = [name for name, spec in wanted.items() if name in specs and is_cast(name, specs[name], spec, cast)]
    specs |= {name: wanted[name] for name in casts}
    if not strict:
        both = specs.keys() & wanted.keys()
        if both or not wanted:
            specs = {name: specs[name] for name in specs if name in both}
            wanted = {name: wanted[name] for name in wanted if name in both}
            static = {}
    lines = differences(specs, wanted, static, strict=strict)
    if lines:
        raise CheckpointError(
            "\n".join([f"`load(like=...)` must have the leaves of the file {source.name}; got differences:", *lines])
        )
    return casts


def _converted(value: Any, like: Any, name: str, call: str) -> np.ndarray:
    try:
        return converted(value, like.dtype)
    except ValueError as error:
        raise CheckpointError(
            f"`{call}` must hold numbers that `load(cast=...)` can convert; got {error} at `{name}`. Give "
            "`like` the dtype of the file there."
        ) from error


def _as_in_like(values: _Leaves, leaves: _Leaves, *, share: bool) -> _Leaves:
    """Return the leaves of the kinds that `leaves` has."""
    arrays = {name: value for name, value in values.items() if hasattr(value, "dtype")}
    is_numpy = {name: isinstance(leaves[name], (np.ndarray, np.generic)) for name in arrays}
    numpy = {name: to_numpy(arrays[name], leaves[name], share=share) for name in arrays if is_numpy[name]}
    for_jax = {name: array for name, array in arrays.items() if not is_numpy[name]}
    return values | numpy | to_jax(for_jax, leaves)
