"""Recurrent layers of the standard in NumPy, in all their forms: any activations, clipping,
peepholes, coupled gates, sequences of different lengths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sol.onnx.values import Array

Function = Callable[[Array], Array]
Shaped = Callable[[Array, float, float], Array]
# new states, the output first, from the input at a step and the states before
Step = Callable[[Array, tuple[Array, ...]], tuple[Array, ...]]

# activations with alpha and beta, and what these are if nothing is said
_FUNCTIONS: dict[str, tuple[Shaped, float, float]] = {
    "affine": (lambda x, a, b: a * x + b, 1.0, 0.0),
    "elu": (lambda x, a, b: np.where(x > 0, x, a * np.expm1(np.minimum(x, 0))), 1.0, 0.0),
    "hardsigmoid": (lambda x, a, b: np.clip(a * x + b, 0, 1), 0.2, 0.5),
    "leakyrelu": (lambda x, a, b: np.where(x < 0, a * x, x), 0.01, 0.0),
    "relu": (lambda x, a, b: np.maximum(x, 0), 0.0, 0.0),
    "scaledtanh": (lambda x, a, b: a * np.tanh(b * x), 1.0, 1.0),
    "sigmoid": (lambda x, a, b: 0.5 * np.tanh(0.5 * x) + 0.5, 0.0, 0.0),
    "softplus": (lambda x, a, b: np.logaddexp(x, 0), 0.0, 0.0),
    "softsign": (lambda x, a, b: x / (1 + np.abs(x)), 0.0, 0.0),
    "tanh": (lambda x, a, b: np.tanh(x), 0.0, 0.0),
    "thresholdedrelu": (lambda x, a, b: np.where(x > a, x, 0), 1.0, 0.0),
}
_USUAL = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}


def lstm(attrs: Mapping[str, Any], inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """y, and the last h and c."""
    return _layer("LSTM", attrs, inputs, _lstm)


def gru(attrs: Mapping[str, Any], inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """y, and the last h."""
    return _layer("GRU", attrs, inputs, _gru)


def rnn(attrs: Mapping[str, Any], inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """y, and the last h."""
    return _layer("RNN", attrs, inputs, _rnn)


# ---- a layer -------------------------------------------------------------------------------------


def _layer(
    op: str, attrs: Mapping[str, Any], inputs: Sequence[Array | None], cell: Callable[..., Step]
) -> tuple[Array, ...]:
    given = [*inputs, *[None] * (8 - len(inputs))]
    (x, w, r, bias, lengths), rest = given[:5], given[5:]
    assert x is not None
    assert w is not None
    assert r is not None
    by_batch = attrs.get("layout", 0)
    starts = rest[: 1 + (op == "LSTM")]
    if by_batch:
        x, starts = x.swapaxes(0, 1), [None if s is None else s.swapaxes(0, 1) for s in starts]
    (time, images, _), (runs, _, hidden) = x.shape, r.shape
    if bias is None:
        bias = np.zeros((runs, 2 * r.shape[1]), x.dtype)
    ends = np.full(images, time) if lengths is None else np.clip(lengths, 0, time)
    y = np.zeros((time, runs, images, hidden), x.dtype)
    last = []
    for run in range(runs):
        functions = _activations(op, attrs, run)
        step = cell(attrs, functions, w[run], r[run], bias[run], _peepholes(rest, run, hidden))
        states = tuple(np.zeros((images, hidden), x.dtype) if s is None else s[run] for s in starts)
        back = run == 1 or _text(attrs.get("direction", "forward")) == "reverse"
        last.append(_run(step, x, states, ends, back, y[:, run]))
    lasts = [np.stack(states) for states in zip(*last)]
    if by_batch:
        return y.transpose(2, 0, 1, 3), *(s.swapaxes(0, 1) for s in lasts)
    return y, *lasts


def _run(
    step: Step, x: Array, states: tuple[Array, ...], ends: Array, back: bool, y: Array
) -> tuple[Array, ...]:
    """Fill y with the outputs of one direction; the states after the last step of each image."""
    for t in range(int(ends.max(initial=0))):
        (live,) = np.nonzero(t < ends)
        place = ends[live] - 1 - t if back else np.full(len(live), t)
        found = step(x[place, live], tuple(s[live] for s in states))
        y[place, live] = found[0]
        states = tuple(s.copy() for s in states)
        for state, new in zip(states, found):
            state[live] = new
    return states


def _activations(op: str, attrs: Mapping[str, Any], run: int) -> list[Function]:
    usual = _USUAL[op]
    count = len(usual)
    names = [_text(n) for n in attrs.get("activations", usual * (run + 1))]
    numbers = {k: list(attrs.get(f"activation_{k}", ())) for k in ("alpha", "beta")}
    found: list[Function] = []
    for place, name in enumerate(names):
        function, alpha, beta = _FUNCTIONS[name.lower()]
        # the numbers are listed for those activations only that have them
        alpha = numbers["alpha"].pop(0) if alpha and numbers["alpha"] else alpha
        two = name.lower() in ("affine", "hardsigmoid", "scaledtanh")
        beta = numbers["beta"].pop(0) if two and numbers["beta"] else beta
        if run * count <= place < (run + 1) * count:
            found.append(lambda z, f=function, a=alpha, b=beta: f(z, a, b))  # type: ignore[misc]
    return found


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _peepholes(rest: Sequence[Array | None], run: int, hidden: int) -> Sequence[Any]:
    weights = rest[2] if len(rest) > 2 else None
    return (0.0, 0.0, 0.0) if weights is None else np.split(weights[run], 3)


# ---- cells ---------------------------------------------------------------------------------------


def _clipped(attrs: Mapping[str, Any], function: Function) -> Function:
    limit = attrs.get("clip")
    return function if limit is None else lambda z: function(np.clip(z, -limit, limit))


def _lstm(
    attrs: Mapping[str, Any], functions: Sequence[Function], w: Array, r: Array, bias: Array,
    peepholes: Sequence[Any],
) -> Step:  # fmt: skip
    gate, candidate, out = (*(_clipped(attrs, f) for f in functions[:2]), functions[2])
    total, (p_i, p_o, p_f) = np.add(*np.split(bias, 2)), peepholes

    def step(x: Array, states: tuple[Array, ...]) -> tuple[Array, ...]:
        h, c = states
        i, o, f, n = np.split(x @ w.T + h @ r.T + total, 4, -1)
        i = gate(i + p_i * c)
        f = 1 - i if attrs.get("input_forget", 0) else gate(f + p_f * c)
        c = f * c + i * candidate(n)
        return gate(o + p_o * c) * out(c), c

    return step


def _gru(
    attrs: Mapping[str, Any], functions: Sequence[Function], w: Array, r: Array, bias: Array,
    peepholes: Sequence[Any],
) -> Step:  # fmt: skip
    gate, candidate = (_clipped(attrs, f) for f in functions)
    of_x, of_h = np.split(bias, 2)

    def step(x: Array, states: tuple[Array, ...]) -> tuple[Array, ...]:
        (h,) = states
        z, reset, n = np.split(x @ w.T + of_x, 3, -1)
        b_z, b_r, b_n = np.split(of_h, 3)
        r_z, r_r, r_n = np.split(r, 3)
        z, reset = gate(z + h @ r_z.T + b_z), gate(reset + h @ r_r.T + b_r)
        if attrs.get("linear_before_reset", 0):
            n = candidate(n + reset * (h @ r_n.T + b_n))
        else:
            n = candidate(n + (reset * h) @ r_n.T + b_n)
        return ((1 - z) * n + z * h,)

    return step


def _rnn(
    attrs: Mapping[str, Any], functions: Sequence[Function], w: Array, r: Array, bias: Array,
    peepholes: Sequence[Any],
) -> Step:  # fmt: skip
    (candidate,) = (_clipped(attrs, f) for f in functions)
    total = np.add(*np.split(bias, 2))
    return lambda x, states: (candidate(x @ w.T + states[0] @ r.T + total),)
