"""What `optimize` hands back: the same kind of module, whose forward runs Sol's programs.

The result is an instance of a subclass of the model's own class, made for it, that shares the
original's parameters, buffers, submodules and hooks (the very dictionaries). So it *is* a ResNet:
isinstance, state_dict and its keys, attributes, methods, hooks, `to`, `train` and assignment work
without a line of code here. A wrapper that forwards attributes breaks more: names in state_dict,
isinstance, code that walks modules. Only `forward` is replaced (and where calls are like the last
one, what PyTorch does around it, which is nothing then); copying and pickling go through the
original class, and where a module is loaded Sol makes its programs anew.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from sol.core.errors import InputError
from sol.pytorch.effects import same_value

_SESSION = "_sol_session"
CHANGED: Any = object()  # what `again` of a session returns if a call is not like the last one
Connect = Callable[[nn.Module, Callable[..., Any]], Any]


class Optimized(nn.Module):
    """Mixed into the class of a module: forward by a session, everything else is inherited."""

    @property
    def sol(self) -> Any:
        """Explanations, checks and numbers about what Sol made of this network."""
        return self.__dict__[_SESSION].handle

    def __setattr__(self, name: str, value: Any) -> None:
        before = self.__dict__.get(name)
        super().__setattr__(name, value)
        session = self.__dict__.get(_SESSION)
        # parameters and submodules are watched; other attributes are part of the traced code
        if session is None or isinstance(value, (nn.Module, torch.Tensor)):
            return
        if not same_value(before, value):
            session.changed(name)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        made = object.__new__(type(self))
        memo[id(self)] = made
        state = {k: v for k, v in self.__dict__.items() if k != _SESSION}
        made.__dict__.update(copy.deepcopy(state, memo))
        return _joined(made, self.__dict__.get(_SESSION))

    def __copy__(self) -> Any:
        made = object.__new__(type(self))
        made.__dict__.update(copy.copy(original(self)).__dict__)
        return _joined(made, self.__dict__.get(_SESSION))

    def __reduce_ex__(self, protocol: Any) -> Any:
        session = self.__dict__.get(_SESSION)
        return _unpickled, (original(self), None if session is None else session.connect)


def optimized(model: nn.Module, connect: Connect) -> nn.Module:
    """The module that runs `model` by Sol; `connect(module, forward)` makes its session."""
    if isinstance(model, Optimized):
        model = original(model)
    made: nn.Module = object.__new__(_class_for(type(model)))
    made.__dict__.update(model.__dict__)
    made.__dict__[_SESSION] = connect(made, _forward_of(made))
    return made


def _joined(made: Any, session: Any) -> Any:
    """A copy with a session of its own."""
    if session is not None:
        made.__dict__[_SESSION] = session.connect(made, _forward_of(made))
    return made


def _forward_of(made: nn.Module) -> Callable[..., Any]:
    """The forward of the original, on the new object: its attributes are what users see and set."""
    replaced = made.__dict__.pop("forward", None)  # a function put on the instance comes first
    if replaced is not None:
        made.__dict__["_sol_forward"] = replaced
    replaced = made.__dict__.get("_sol_forward")
    return replaced or functools.partial(_original_class(made).forward, made)


def _original_class(module: nn.Module) -> type[Any]:
    return type(module).__mro__[2]  # the made class, Optimized, the model's own


def original(module: nn.Module) -> nn.Module:
    """A module of the original class on the same parameters, buffers and submodules."""
    made: nn.Module = object.__new__(_original_class(module))
    made.__dict__.update({k: v for k, v in module.__dict__.items() if k != _SESSION})
    if "_sol_forward" in made.__dict__:
        made.__dict__["forward"] = made.__dict__.pop("_sol_forward")
    return made


_classes: dict[type, type[Any]] = {}


def _class_for(cls: type[Any]) -> type[Any]:
    """A subclass of `cls` whose forward is Sol's; it keeps the name, for code that looks at it."""
    if cls not in _classes:
        _classes[cls] = _new_class(cls)
    return _classes[cls]


def _new_class(cls: type[Any]) -> type[Any]:
    @functools.wraps(cls.forward)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        session = self.__dict__.get(_SESSION)
        if session is None:  # made by the class itself, as slices of nn.Sequential are
            return cls.forward(self, *args, **kwargs)
        return session.at_length(args, kwargs)

    def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        session = self.__dict__.get(_SESSION)
        if session is not None and session.again is not None:
            result = session.again(args, kwargs)
            if result is not CHANGED:
                return result
        return nn.Module.__call__(self, *args, **kwargs)

    body: dict[str, Any] = {
        "__module__": cls.__module__,
        "__doc__": cls.__doc__,
        "forward": forward,
    }
    if cls.__call__ is nn.Module.__call__:
        body["__call__"] = call
    try:
        meta: Any = type(cls)
        made: type[Any] = meta(cls.__name__, (Optimized, cls), body)
    except TypeError as error:
        raise InputError(
            f"{cls.__name__} cannot have a subclass ({error})",
            expected="a torch.nn.Module written in Python",
            do="pass the module that it was made from, not a scripted or compiled one",
        ) from None
    made.__qualname__ = cls.__qualname__
    return made


def _unpickled(model: nn.Module, connect: Connect | None) -> nn.Module:
    return model if connect is None else optimized(model, connect)
