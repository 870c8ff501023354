"""A call like the last one, made with the least that can be done for it.

After a call hardly anything of Python that the next one needs is in a cache: forty small functions,
each of which asks one thing, take as long as some layers do. So where two calls in a row were
alike, the next one asks all of it in one function. PyTorch's own guards, which torch.compile asks
before each call, compare the arguments and the modes in force; one native look, within the native
call, sees parameters, submodules, modes of training, hooks and the environment; what is left are
comparisons of a few names. If anything differs, nothing was done, and the call takes the long way.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.hooks import RemovableHandle

from sol.core import config
from sol.pytorch import places
from sol.pytorch.judge import batch_class
from sol.pytorch.module import CHANGED
from sol.pytorch.places import Look
from sol.pytorch.tree import Leaf

if TYPE_CHECKING:
    from sol.pytorch.session import Entry, Session

Again = Callable[[tuple[Any, ...], dict[str, Any]], Any]  # of arguments by place and by name
_C: Any = torch._C


def again(
    session: Session, entry: Entry, tensors: list[torch.Tensor], batch: int,
    names: tuple[str, ...], look: Look,
) -> Again | None:  # fmt: skip
    """What computes calls like this one, whose arguments are these tensors, the last ones by these
    names; None if more has to be done for them than the program does. look: sees what `Watch`
    would.

    Calls do not want gradients, and the program was prepared.
    """
    kind, forced = batch_class(batch), session.forced_way
    way = entry.ways.get(kind)
    if torch.is_grad_enabled() or (session.judge is not None and (forced or way) != "sol"):
        return None  # while nobody knows which way is faster, each call is timed
    environment = getattr(os.environ, "_data", None)
    guard, seen = _guard(tensors), places.of_tables([environment])
    if guard is None or seen is None:
        return None
    program = entry.program
    direct = program.again(batch, look.joined(seen))
    if direct is None:
        return None
    run, order, kinds = direct
    count, pack = len(tensors), struct.Struct(f"{len(order) + len(kinds)}Q").pack
    one = isinstance(entry.captured.tree, Leaf)
    entries, executables = session.entries, program.executables
    asks = session.threads_wanted is None and config.THREADS.get() is None
    threads, handles = torch.get_num_threads(), RemovableHandle.next_id
    modes, empty = _C._len_torch_function_stack, torch.empty

    def call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if kwargs and len(kwargs) == len(names):
            args = (*args, *map(kwargs.get, names))
        if (
            torch.compiler.is_compiling()
            or len(kwargs) != len(names)
            or len(args) != count
            or modes()
            or torch.is_grad_enabled()
            or not guard(*args)
            or (asks and torch.get_num_threads() != threads)
            or RemovableHandle.next_id != handles
            or session.entries is not entries
            or session.forced_way != forced
            or entry.program is not program
            or program.executables is not executables
            or entry.ways.get(kind) != way
        ):
            return CHANGED
        outputs = [empty(shape, dtype=dtype) for shape, dtype in kinds]
        read = [args[k].data_ptr() for k in order]
        if not run(pack(*read, *[t.data_ptr() for t in outputs])):
            return CHANGED
        session.count_run()
        return outputs[0] if one else program.put_together(outputs)

    return call


def _guard(tensors: list[torch.Tensor]) -> Callable[..., bool] | None:
    """Whether arguments are like these: type, shape, order, dtype, device, and what PyTorch does to
    operators on them (autocast, tracing, vmap, …). None if this version of PyTorch cannot say."""
    try:
        made = _C._dynamo.guards.TensorGuards(
            *tensors,
            dynamic_dims_sizes=[list(t.shape) for t in tensors],
            dynamic_dims_strides=[list(t.stride()) for t in tensors],
        )
        check: Callable[..., bool] = made.check
        return check if check(*tensors) else None
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return None
