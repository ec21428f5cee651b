"""Translate a function to ONNX, so that other runtimes can run it: `to_onnx`."""

import functools
import importlib
import string
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from .._finalise import finalise_jaxpr
from .._jax_compat import is_jaxpr
from .._make_jaxpr import filter_make_jaxpr

_OPSET = 18


def to_onnx(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of the same arguments that gives `fn` as an ONNX model. Experimental; it needs `onnx`.

    Args:
      fn: Any callable made of arithmetic, comparisons, matrix products, convolutions, reductions and changes of shape.
        The arrays that it holds become constants of the model.

    Returns:
      A function that returns an `onnx.ModelProto`. The arrays among its arguments, for which `jax.ShapeDtypeStruct`s
      may stand, are the inputs `input_0`, `input_1`, ... of the model; those of the result are `output_0` and so on. The
      shapes are fixed.

    Raises:
      ImportError: `onnx` is not installed.
      NotImplementedError: `fn` uses an operation that is not translated.
    """

    @functools.wraps(fn)
    def translate(*args: Any, **kwargs: Any) -> Any:
        onnx = _onnx()
        jaxpr = finalise_jaxpr(filter_make_jaxpr(fn)(*args, **kwargs)[0])
        graph = _Graph(onnx)
        inputs = [f"input_{i}" for i in range(len(jaxpr.in_avals))]
        outputs = [f"output_{i}" for i in range(len(jaxpr.out_avals))]
        for name, output in zip(graph.program(jaxpr.jaxpr, jaxpr.consts, inputs), outputs, strict=True):
            graph.nodes.append(onnx.helper.make_node("Identity", [name], [output]))
        infos = [graph.infos(*pair) for pair in ((inputs, jaxpr.in_avals), (outputs, jaxpr.out_avals))]
        made = onnx.helper.make_graph(graph.nodes, getattr(fn, "__name__", "function"), *infos, graph.constants)
        model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", _OPSET)], ir_version=8)
        onnx.checker.check_model(model)
        return model

    return translate


def _onnx() -> Any:
    try:
        importlib.import_module("onnx.checker")
        return importlib.import_module("onnx")
    except ImportError as error:
        raise ImportError(
            f"`to_onnx(fn)(...)` must find the package `onnx`; got `{error}`. Install it by `pip install onnx`."
        ) from error


class _Graph:
    """An ONNX graph that is being made. What is computed in it goes by names."""

    def __init__(self, onnx: Any):
        self.helper = onnx.helper
        self.from_array = onnx.numpy_helper.from_array
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def infos(self, names: Sequence[str], avals: Sequence[Any]) -> list[Any]:
        make = self.helper.make_tensor_value_info
        return [make(name, self.type_of(aval.dtype), aval.shape) for name, aval in zip(names, avals, strict=True)]

    def type_of(self, dtype: Any) -> int:
        return self.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

    def constant(self, value: Any) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(self.from_array(np.asarray(value), name))
        return name

    def shape(self, shape: Sequence[int]) -> str:
        return self.constant(np.array(shape, np.int64))

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"value_{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(op, inputs, [name], **attributes))
        return name

    def cast(self, x: str, dtype: Any) -> str:
        return self.add("Cast", x, to=self.type_of(dtype))

    def program(self, jaxpr: Any, consts: Sequence[Any], inputs: Sequence[str]) -> list[str]:
        """Add the equations of a jaxpr, and return the names of its results."""
        names = dict(zip(jaxpr.invars, inputs, strict=True))
        names.update(zip(jaxpr.constvars, map(self.constant, consts), strict=True))

        def name(atom: Any) -> str:
            return self.constant(np.asarray(atom.val, atom.aval.dtype)) if hasattr(atom, "val") else names[atom]

        for eqn in jaxpr.eqns:
            names.update(zip(eqn.outvars, self.equation(eqn, list(map(name, eqn.invars))), strict=True))
        return list(map(name, jaxpr.outvars))

    def equation(self, eqn: Any, inputs: list[str]) -> list[str]:
        kind = eqn.primitive.name
        if kind in _SAME:
            return [self.add(_SAME[kind], *inputs)]
        if kind in _RULES:
            return [_RULES[kind](self, eqn, *inputs)]
        inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
        if kind in _CALLS and is_jaxpr(inner):
            return self.program(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), inputs)
        raise NotImplementedError(
            f"`to_onnx(fn)(...)` must be a function of operations that are translated; got `{kind}` in it. Replace it, "
            f"or export by `jax.export` for runtimes of StableHLO."
        )


_CALLS = frozenset({"jit", "pjit", "closed_call", "core_call", "custom_vjp_call", "checkpoint", "remat", "remat2"})

# What ONNX has under another name.
_SAME = {
    "abs": "Abs", "add": "Add", "add_any": "Add", "and": "And", "ceil": "Ceil", "copy": "Identity", "cos": "Cos",
    "cosh": "Cosh", "div": "Div", "eq": "Equal", "erf": "Erf", "exp": "Exp", "floor": "Floor", "ge": "GreaterOrEqual",
    "gt": "Greater", "le": "LessOrEqual", "log": "Log", "logistic": "Sigmoid", "lt": "Less", "max": "Max",
    "min": "Min", "mul": "Mul", "neg": "Neg", "not": "Not", "or": "Or", "pow": "Pow", "sign": "Sign", "sin": "Sin",
    "sinh": "Sinh", "sqrt": "Sqrt", "sub": "Sub", "tan": "Tan", "tanh": "Tanh", "copy_p": "Identity",
}  # fmt: skip

_Rule = Callable[..., str]


def _integer_pow(graph: _Graph, eqn: Any, x: str) -> str:
    return graph.add("Pow", x, graph.constant(np.array(eqn.params["y"], eqn.invars[0].aval.dtype)))


def _broadcast_in_dim(graph: _Graph, eqn: Any, x: str) -> str:
    shape, aval = eqn.params["shape"], eqn.invars[0].aval
    aligned = [1] * len(shape)
    for place, size in zip(eqn.params["broadcast_dimensions"], aval.shape, strict=True):
        aligned[place] = size
    return graph.add("Expand", graph.add("Reshape", x, graph.shape(aligned)), graph.shape(shape))


def _reshape(graph: _Graph, eqn: Any, x: str) -> str:
    return graph.add("Reshape", x, graph.shape(eqn.outvars[0].aval.shape))


def _slice(graph: _Graph, eqn: Any, x: str) -> str:
    starts, limits = eqn.params["start_indices"], eqn.params["limit_indices"]
    strides = eqn.params["strides"] or (1,) * len(starts)
    return graph.add("Slice", x, *map(graph.shape, (starts, limits, range(len(starts)), strides)))


def _select_n(graph: _Graph, eqn: Any, which: str, *cases: str) -> str:
    if len(cases) != 2 or eqn.invars[0].aval.dtype != np.bool_:
        raise NotImplementedError(
            "`to_onnx(fn)(...)` must be a function of operations that are translated; got `select_n` of "
            f"{len(cases)} cases in it. Write it as several `jnp.where`."
        )
    return graph.add("Where", which, cases[1], cases[0])


def _reduction(op: str) -> _Rule:
    def rule(graph: _Graph, eqn: Any, x: str) -> str:
        return graph.add(op, x, graph.shape(eqn.params["axes"]), keepdims=0)

    return rule


def _logical_reduction(op: str) -> _Rule:
    def rule(graph: _Graph, eqn: Any, x: str) -> str:
        return graph.cast(_reduction(op)(graph, eqn, graph.cast(x, np.int32)), np.bool_)

    return rule


def _arg(op: str) -> _Rule:
    def rule(graph: _Graph, eqn: Any, x: str) -> str:
        return graph.cast(graph.add(op, x, axis=eqn.params["axes"][0], keepdims=0), eqn.params["index_dtype"])

    return rule


def _dot_general(graph: _Graph, eqn: Any, x: str, y: str) -> str:
    (x_sum, y_sum), (x_batch, y_batch) = eqn.params["dimension_numbers"]
    letters = iter(string.ascii_letters)
    x_axes: dict[int, str] = {axis: next(letters) for axis in range(eqn.invars[0].aval.ndim)}
    y_axes = {j: x_axes[i] for i, j in zip((*x_sum, *x_batch), (*y_sum, *y_batch), strict=True)}
    y_axes |= {j: next(letters) for j in range(eqn.invars[1].aval.ndim) if j not in y_axes}
    out = [x_axes[i] for i in x_batch]
    out += [letter for i, letter in x_axes.items() if i not in (*x_sum, *x_batch)]
    out += [y_axes[j] for j in sorted(y_axes) if j not in (*y_sum, *y_batch)]
    spelt = "".join(x_axes[i] for i in sorted(x_axes)), "".join(y_axes[j] for j in sorted(y_axes)), "".join(out)
    product = graph.add("Einsum", x, y, equation="{},{}->{}".format(*spelt))
    return graph.cast(product, eqn.outvars[0].aval.dtype)


def _conv_general_dilated(graph: _Graph, eqn: Any, x: str, kernel: str) -> str:
    params, (x_spec, kernel_spec, out_spec) = eqn.params, eqn.params["dimension_numbers"]
    if set(params["lhs_dilation"]) - {1} or params["batch_group_count"] != 1:
        raise NotImplementedError(
            "`to_onnx(fn)(...)` must be a function of operations that are translated; got a transposed convolution in "
            "it. Repeat the input by hand, and use a plain convolution."
        )
    low, high = zip(*params["padding"], strict=True) if params["padding"] else ((), ())
    out = graph.add(
        "Conv",
        graph.add("Transpose", x, perm=x_spec),
        graph.add("Transpose", kernel, perm=kernel_spec),
        strides=params["window_strides"],
        pads=(*low, *high),
        dilations=params["rhs_dilation"],
        group=params["feature_group_count"],
    )
    return graph.add("Transpose", out, perm=np.argsort(out_spec).tolist())


_RULES: dict[str, _Rule] = {
    "argmax": _arg("ArgMax"),
    "argmin": _arg("ArgMin"),
    "broadcast_in_dim": _broadcast_in_dim,
    "clamp": lambda graph, eqn, low, x, high: graph.add("Min", graph.add("Max", x, low), high),
    "concatenate": lambda graph, eqn, *xs: graph.add("Concat", *xs, axis=eqn.params["dimension"]),
    "conv_general_dilated": _conv_general_dilated,
    "convert_element_type": lambda graph, eqn, x: graph.cast(x, eqn.params["new_dtype"]),
    "dot_general": _dot_general,
    "expand_dims": _reshape,
    "expm1": lambda graph, eqn, x: graph.add("Sub", graph.add("Exp", x), graph.constant(_one(eqn))),
    "integer_pow": _integer_pow,
    "iota": lambda graph, eqn: graph.constant(_iota(eqn)),
    "log1p": lambda graph, eqn, x: graph.add("Log", graph.add("Add", x, graph.constant(_one(eqn)))),
    "ne": lambda graph, eqn, x, y: graph.add("Not", graph.add("Equal", x, y)),
    "one_minus_square": lambda graph, eqn, x: graph.add("Sub", graph.constant(_one(eqn)), graph.add("Mul", x, x)),
    "reduce_and": _logical_reduction("ReduceMin"),
    "reduce_max": _reduction("ReduceMax"),
    "reduce_min": _reduction("ReduceMin"),
    "reduce_or": _logical_reduction("ReduceMax"),
    "reduce_prod": _reduction("ReduceProd"),
    "reduce_sum": _reduction("ReduceSum"),
    "reshape": _reshape,
    "rsqrt": lambda graph, eqn, x: graph.add("Reciprocal", graph.add("Sqrt", x)),
    "select_n": _select_n,
    "slice": _slice,
    "square": lambda graph, eqn, x: graph.add("Mul", x, x),
    "squeeze": _reshape,
    "transpose": lambda graph, eqn, x: graph.add("Transpose", x, perm=eqn.params["permutation"]),
}


def _one(eqn: Any) -> np.ndarray:
    return np.ones((), eqn.outvars[0].aval.dtype)


def _iota(eqn: Any) -> np.ndarray:
    aval, axis = eqn.outvars[0].aval, eqn.params["dimension"]
    return np.asarray(jax.lax.broadcasted_iota(aval.dtype, aval.shape, axis))
