"""The call of the poster: `optimize(model, input.size())`.

Comes in: a module and examples of what it is called with. Goes out: a module of the same class that
computes the same by Sol. Whatever Sol cannot take runs in PyTorch, and `result.sol.explain()` says
what and why.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from sol.core.errors import InputError
from sol.pytorch.connect import check_options, option_names
from sol.pytorch.connector import Connector
from sol.pytorch.inputs import examples, has_sizes, most_indices, takes_indices
from sol.pytorch.module import optimized
from sol.pytorch.progress import Progress, shown
from sol.pytorch.replica import replica
from sol.pytorch.session import Session
from sol.pytorch.tuning import tune


def optimize(
    model: nn.Module,
    *example: Any,
    example_kwargs: Mapping[str, Any] | None = None,
    progress: Progress | bool | None = None,
    **keywords: Any,
) -> nn.Module:
    """A module that computes what `model` computes, by Sol.

    example: what the model will be called with: tensors, or sizes (torch.Size, tuples or lists of
    whole numbers) that stand for float32 tensors; for token numbers (int64) if the model has an
    embedding and takes no float32. Arguments may be nested as in a call. The first size is the
    batch; a program serves every batch. keywords: options (threads=…) and keyword arguments of the
    model; example_kwargs takes those whose names are options. progress: a function (text, done,
    total), True or False; by default a bar if stderr is a terminal.

    Without examples Sol reads the model at its first call. Parameters stay the model's: changes
    are seen at the next call. Raises ConfigError for a value that an option
    does not have, InputError for something that is no module, for a keyword that nobody knows, and
    if the model itself cannot be called with the examples.
    """
    if not isinstance(model, nn.Module):
        raise InputError(
            f"optimize got a {type(model).__name__}",
            expected="a torch.nn.Module",
            do="optimize(model, input.size())",
        )
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError(
            f"a {type(model).__name__} is compiled code of torch.jit",
            expected="a torch.nn.Module written in Python",
            do="pass the module that it was made from",
        )
    options = {k: v for k, v in keywords.items() if k in option_names()}
    kwargs = {k: v for k, v in keywords.items() if k not in options} | dict(example_kwargs or {})
    _check_names(model, kwargs)
    with shown(progress) as tell:
        check_options(options)
        _check_tuning(options.get("tune"), bool(example or kwargs))
        made = optimized(model, Connector(tuple(sorted(options.items())), tell))
        if example or kwargs:
            tell("reading the network", 0, 0)
            seconds = options.get("tune") or 0.0
            _first_program(made.__dict__["_sol_session"], example, kwargs, tell, seconds)
    return made


def _check_tuning(tune: float | None, has_example: bool) -> None:
    """Tuning measures on an example."""
    if tune and not has_example:
        raise InputError(
            f"optimize got tune={tune!r} and no example",
            expected="what the model is called with, to measure with",
            do=f"optimize(model, input.size(), tune={tune!r})",
        )


def _check_names(model: nn.Module, kwargs: Mapping[str, Any]) -> None:
    parameters = inspect.signature(model.forward).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    unknown = [k for k in kwargs if k not in parameters]
    if unknown:
        raise InputError(
            f"optimize got {unknown[0]}=…",
            expected=f"an option ({', '.join(sorted(option_names()))}) or an argument of "
            f"{type(model).__name__}.forward ({', '.join(parameters)})",
        )


def _first_program(
    session: Session,
    example: Sequence[Any],
    kwargs: Mapping[str, Any],
    tell: Progress,
    seconds: float,
) -> None:
    """Make the program for these examples, or find out that the model cannot take them.

    seconds: for tuning it.
    """
    dtypes = [torch.float32]
    if has_sizes((tuple(example), dict(kwargs))) and takes_indices(session.model):
        dtypes.append(torch.int64)
    if session.training:
        return  # it is the original that runs then; the first call in evaluation mode reads it
    for dtype in dtypes:
        args, named = examples(example, kwargs, dtype, most_indices(session.model))
        before = dict(session.refused)
        entry = session.specialise(args, named)
        if entry is not None:
            if seconds:
                tune(session, entry, args, named, seconds, tell)
            if session.judge is not None:
                tell("measuring Sol against PyTorch", 0, 0)
                session.measure(entry, args, named)
            return
        error = _own_error(session, args, named)
        if error is None:
            return
        session.refused = before
    raise InputError(
        f"{type(session.model).__name__} cannot be called with these examples: "
        f"{str(error) or type(error).__name__}",
        expected="examples of what the model takes",
        do="pass tensors or sizes as in a call of the model",
    ) from error


def _own_error(
    session: Session, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Exception | None:
    """What the model itself says about such a call, None if it takes it."""
    _, call = replica(session.model, session.call)  # its attributes stay as they are
    try:
        with torch.no_grad():
            call(*args, **kwargs)
    except Exception as error:
        return error
    return None
