"""Bring the leaves of a file to the schemas that the classes of `like` have."""

import builtins
from collections.abc import Callable
from typing import Any

import eqx_core

from ._checkpoint_error import CheckpointError
from ._migration import Migration, migrations_of
from ._paths import ROOT, joined, range_below, relative
from ._shown import shown
from ._spec import ScalarSpec, spec_of
from ._structure import Node, class_name, schema_of

_Leaves = dict[str, Any]


def migrate(
    leaves: _Leaves,
    nodes: dict[str, Node],
    classes: dict[str, type],
    fetch: Callable[[_Leaves], _Leaves],
    call: str,
) -> tuple[_Leaves, list[str]]:
    """Return the leaves as they are called today, and the names of the nodes that were migrated.

    Nodes further down come first, so a class finds the parts it is made of as they are today.

    Args:
      leaves: What the file holds, by name.
      nodes: The nodes of the file, by name.
      classes: The classes of the nodes of `like`, by name.
      fetch: Turns leaves into values.
      call: What errors call the reading of the file.

    Raises:
      CheckpointError: The file is newer than a class, or a migration is missing or fails.
    """
    by_class = {class_name(cls): cls for cls in classes.values()}
    leaves, names = dict(leaves), sorted(leaves)
    order = {name: i for i, name in enumerate(leaves)}
    migrated: list[str] = []
    for name in sorted(nodes, key=lambda name: (name != ROOT, len(name)), reverse=True):
        cls = _class_of(name, nodes[name], classes, by_class)
        if cls is None or nodes[name].schema == schema_of(cls):
            continue
        where = f"`{shown(nodes[name].cls)}` at `{shown(name)}`"
        first, last = range_below(names, name)
        here = sorted(names[first:last], key=lambda leaf: order.get(leaf, len(order)))
        within = {leaf: path for leaf in here if (path := relative(leaf, name)) is not None}
        values = fetch({leaf: leaves[leaf] for leaf in within})
        inside = {path: values[leaf] for leaf, path in within.items()}
        for step in _steps(cls, nodes[name].schema, where, call):
            inside = _run(step, cls, inside, where, call)
        for leaf in within:
            del leaves[leaf]
        leaves |= {joined(name, path): leaf for path, leaf in inside.items()}
        kept = [leaf for leaf in here if leaf not in within]
        names[first:last] = sorted([*kept, *(joined(name, path) for path in inside)])
        migrated.append(name)
    return leaves, migrated


def _class_of(name: str, node: Node, classes: dict[str, type], by_class: dict[str, type]) -> type | None:
    """Return the class of today for a node of the file, among those that `like` has."""
    here = classes.get(name)
    if here is not None and class_name(here) == node.cls:
        return here
    # Another place, or another name at the same place. Containers have no versions.
    return by_class.get(node.cls, None if hasattr(builtins, node.cls) else here)


def _steps(cls: type, schema: int, where: str, call: str) -> list[Migration]:
    """Return the migrations from `schema` to that of `cls`, in order."""
    wanted = schema_of(cls)
    if schema > wanted:
        raise CheckpointError(
            f"`{call}` must not be newer than the code; got {where} with schema {schema}, where the class "
            f"`{class_name(cls)}` has schema {wanted}. Update the code that defines it."
        )
    found, steps = migrations_of(cls), []
    while schema < wanted:
        if schema not in found:
            raise CheckpointError(
                f"`{call}` must hold schemas that the code can read; got {where} with schema {schema}, where the class "
                f"`{class_name(cls)}` has schema {wanted} and no migration from {schema}. Declare one by "
                f"`@eqx_serialise.migration({schema}, {schema + 1})`."
            )
        steps.append(found[schema])
        schema = found[schema].new
    return steps


def _run(step: Migration, cls: type, leaves: _Leaves, where: str, call: str) -> _Leaves:
    what = f"the migration of {where} from schema {step.old} to {step.new}"
    try:
        result: Any = step.of(cls)(dict(leaves))
    except Exception as error:
        raise CheckpointError(
            f"`{call}` must hold leaves that its migrations understand; got {type(error).__name__} in {what}: "
            f"{error}. It was given {', '.join(map(shown, leaves)) or 'no leaves'}."
        ) from error
    if not isinstance(result, dict) or not all(isinstance(name, str) for name in result):
        raise CheckpointError(
            f"`{call}` must be migrated to a dictionary of leaves by path; got `{type(result).__name__}` from {what}. "
            "Return the dictionary."
        )
    for name, leaf in result.items():
        if not eqx_core.is_array(leaf) and not isinstance(spec_of(leaf), ScalarSpec):
            raise CheckpointError(
                f"`{call}` must be migrated to arrays and Python values; got `{type(leaf).__name__}` at "
                f"`{name}` from {what}. Leave out what a file does not hold."
            )
    return result
