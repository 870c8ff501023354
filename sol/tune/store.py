"""What tuning has found, in the cache: one entry for each kind of layer, method and all.

The key is the text of the layer's default kernel (shapes, attributes, epilogue: everything), the
precision and the machine. So other networks and other processes with the same layer have the
method, too. An entry that cannot be read, or names a method that there is no more, is ignored.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, replace

import sol
from sol.backends.c import kernel_unit
from sol.compiler import Made, Options, lower_by, other_methods
from sol.core.device import CpuDevice
from sol.core.keys import content_key
from sol.kernels.methods import name_of
from sol.plan.planner import Planned
from sol.runtime.cache import cache

log = logging.getLogger(__name__)
_SUFFIX = "tuned"


@dataclass(frozen=True, slots=True)
class Record:
    """The fastest method for a kind of layer ("": the default one), how many times as fast as the
    default it is, how many others were measured, and the class of batches (batch_class)."""

    method: str
    gain: float
    methods: int
    batches: int

    @property
    def why(self) -> str:
        """For `explain`."""
        if self.method:
            return f"tuned: {self.gain:.2f} times the default's speed"
        others = f"{self.methods} other methods are" if self.methods > 1 else "another method is"
        return f"tuned: {others} no faster"


def batch_class(batch: int) -> int:
    """Batches of as many binary digits are tuned alike: 1, 2 to 3, 4 to 7, …"""
    return batch.bit_length()


def key_of(made: Made, device: CpuDevice, options: Options, threads: int) -> str:
    """Equal layers have equal keys; `made` is the default for the layer."""
    kernels = [kernel_unit(call.kernel)[0] for call in made.calls]
    machine = (device.name, device.identity, f"{device.cores} cores", f"{threads} threads")
    return content_key("tuned", sol.__version__, options.precision, *machine, *kernels)


def find(key: str) -> Record | None:
    """The record under a key, None if there is none that can be read."""
    data = cache.get(key, _SUFFIX)
    if data is None:
        return None
    try:
        record = Record(**json.loads(data))
    except (ValueError, TypeError):
        log.warning("a result of tuning cannot be read and is ignored")
        return None
    counts = isinstance(record.methods, int) and isinstance(record.batches, int)
    valid = isinstance(record.method, str) and isinstance(record.gain, (int, float)) and counts
    return record if valid else None


def keep(key: str, record: Record) -> None:
    """Store a record in place of an older one. A cache that cannot be written forgets it."""
    try:
        cache.replace(key, _SUFFIX, json.dumps(asdict(record)).encode())
    except OSError as error:
        log.warning("what was tuned could not be kept in the cache: %s", error)


def recall(
    planned: Planned,
    made: tuple[Made, ...],
    device: CpuDevice,
    options: Options,
    *,
    threads: int,
) -> tuple[Made, ...]:
    """The default steps of a network, with the methods that were found to be faster."""
    return tuple(
        _recalled(planned, m, device, options, threads) if m.cluster.kind == "contraction" else m
        for m in made
    )


def _recalled(
    planned: Planned, made: Made, device: CpuDevice, options: Options, threads: int
) -> Made:
    record = find(key_of(made, device, options, threads))
    found = None if record is None else apply(planned, made, record, device, options)
    return found or made


def apply(
    planned: Planned, made: Made, record: Record, device: CpuDevice, options: Options
) -> Made | None:
    """The step by the record's method, and why; None if there is no such method any more."""
    if not record.method:
        return replace(made, why=f"{made.why}; {record.why}")
    for method in other_methods(planned, made.cluster, device, options):
        if name_of(method) == record.method:
            found = lower_by(planned, made.cluster, device, method)
            return replace(found, why=f"{found.why}; {record.why}")
    return None
