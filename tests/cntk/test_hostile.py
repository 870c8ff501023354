"""Files that were cut off, changed or made to hurt: a clear SolError, or a model to be read."""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from sol.arrays.captured import Captured
from sol.arrays.signature import checked, signature_of
from sol.cntk import Function
from sol.cntk.batches import groups
from sol.cntk.dictionary import Axis, Shape, Tensor, parse
from sol.cntk.model import from_dictionary, load
from sol.core.errors import InputError, SolError, UnsupportedError
from tests.cntk.cases import Case, cases

NAMES = tuple(name for name, case in cases().items() if len(case.data) < 5000)


def captured(case: Case, model: Any) -> Captured:
    """A model, read for the first kind of inputs of a case, after all kinds were."""
    function = Function(model)
    network = function.networks[0]
    given = function._given(case.inputs)
    found = []
    for group in groups(function._inputs, given):
        arrays = checked(network.inputs, group.arrays)
        found.append(network._read(dict(signature_of(network.inputs, arrays)[0].types)))
    return found[0]


def read(case: Case, model: Callable[[], Any]) -> bool:
    """Whether a model can be read for the inputs of a case; if not, the error is ours."""
    try:
        captured(case, model())
    except SolError:
        return False
    return True


# ---- bytes ---------------------------------------------------------------------------------------


def changed(data: bytes, rng: random.Random) -> bytes:
    """The bytes of a file, some of them changed, moved or gone."""
    if rng.random() < 0.15:
        return data[: rng.randrange(len(data))]
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        if not found:
            break
        place, kind = rng.randrange(len(found)), rng.randrange(5)
        if kind == 0:
            found[place] = rng.choice((0, 1, 127, 128, 255))
        elif kind == 1:
            found[place] ^= 1 << rng.randrange(8)
        elif kind == 2:
            source, count = rng.randrange(len(found)), rng.randrange(1, 64)
            found[place : place + count] = found[source : source + count]
        elif kind == 3:
            del found[place : place + rng.randrange(1, 40)]
        else:  # a name that leads somewhere else
            digits = [k for k, byte in enumerate(found) if 48 <= byte < 58]
            if digits:
                found[rng.choice(digits)] = rng.randrange(48, 58)
    return bytes(found)


def test_bytes() -> None:
    """3000 changed files; none takes a second, or much more memory than the file."""
    rng = random.Random(5)
    whole = 0
    for _ in range(3000):
        case = cases()[rng.choice(NAMES)]
        data = changed(case.data, rng)
        started = time.process_time()
        whole += read(case, lambda data=data: load(data))
        assert time.process_time() - started < 5
    assert 50 < whole < 1500


def test_every_beginning() -> None:
    """A file that was cut off is told from a whole one."""
    case = cases()["dense"]
    for size in range(0, len(case.data), 3):
        with pytest.raises(InputError, match="not a whole CNTK model"):
            load(case.data[:size])


# ---- entries -------------------------------------------------------------------------------------

NUMBERS = (0, 1, -1, 2, 3, 7, 100, 2**31 - 1, -(2**31), 2**40, -(2**40), 2**63 - 1, 57, 44, 33, 17)
TEXTS = ("", "x", "Sum", "Mean", "Argmax", "defaultBatchAxis", "AllAxes", "AllStaticAxes")


def other(value: Any, rng: random.Random) -> Any:
    """Another value, mostly of the same kind."""
    if rng.random() < 0.1:
        return rng.choice((None, 1, "x", [], {}, 1.5, Shape((2,)), True))
    match value:
        case bool():
            return not value
        case int():
            return rng.choice((*NUMBERS, value + 1, value - 1))
        case float():
            return rng.choice((0.0, -1.0, float("inf"), float("nan"), 1e30, 1.5))
        case str():
            return rng.choice((*TEXTS, value + "1", value[:-1], value + "_Output_0"))
        case Shape(sizes):
            longer = (*sizes, rng.choice(NUMBERS))
            return Shape(tuple(rng.sample(longer, rng.randint(0, len(longer)))))
        case Axis():
            return Axis(rng.choice(NUMBERS), rng.choice((value.name, *TEXTS)), value.ordered)
        case Tensor():
            sizes = other(value.shape, rng)
            known = sizes if isinstance(sizes, Shape) else value.shape
            return Tensor(value.dtype, known, value.values, value.integers)
        case list() if value:
            place = rng.randrange(len(value))
            return [
                *value[:place],
                *[other(value[place], rng)] * rng.randrange(3),
                *value[place + 1 :],
            ]
    return value


def rewritten(data: bytes, rng: random.Random) -> dict[str, Any]:
    """What a file says, with some entries said otherwise: other operations, references, sizes."""
    top = parse(data)
    names = [e["uid"] for e in top["inputs"]]
    names += [f"{e['uid']}_Output_0" for e in top["primitive_functions"]]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        operation = rng.choice(top["primitive_functions"])
        choices = [operation, operation, rng.choice(top["inputs"]), operation.get("attributes")]
        entry = rng.choice(choices) if top["inputs"] else operation
        if not isinstance(entry, dict) or not entry:
            continue
        key = rng.choice(list(entry))
        if key == "op":
            entry[key] = rng.randrange(100)
        elif key == "inputs" and isinstance(entry[key], list):
            entry[key] = [rng.choice((name, rng.choice(names))) for name in entry[key]]
        else:
            entry[key] = other(entry[key], rng)
    return top


def test_entries() -> None:
    """2000 files that are whole and say something else."""
    rng = random.Random(6)
    whole = 0
    for _ in range(2000):
        case = cases()[rng.choice(NAMES)]
        top = rewritten(case.data, rng)
        started = time.process_time()
        whole += read(case, lambda top=top: from_dictionary(top))
        assert time.process_time() - started < 5
    assert 200 < whole < 1800


# ---- made to hurt --------------------------------------------------------------------------------


def message(number: int, content: bytes) -> bytes:
    """A field that holds bytes."""
    size, length = bytearray(), len(content)
    while True:
        size.append(length & 127 | (128 if length > 127 else 0))
        length >>= 7
        if not length:
            return bytes([number << 3 | 2, *size]) + content


def entry(key: str, value: bytes) -> bytes:
    """An entry of a dictionary."""
    return message(2, message(1, key.encode()) + message(2, value))


def test_memory() -> None:
    """Reading takes at most 60 times the bytes of a file, whatever is in it."""
    empty = message(12, b"")  # a value that is a dictionary
    files = {
        "dictionaries": entry("x", message(11, message(1, empty) * 2000)),
        "nothing": entry("x", message(11, message(1, b"") * 5000)),
        "keys": b"".join(entry(str(k), message(8, b"")) for k in range(1000)),
        "shapes": entry("x", message(11, message(1, message(9, b"")) * 2000)),
        "sizes": entry("x", message(9, message(1, b"\x01" * 5000))),
    }
    for name, data in files.items():
        tracemalloc.start()
        parse(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 60 * len(data), name


def test_depth() -> None:
    value = message(12, b"")
    for _ in range(150):
        value = message(12, entry("x", value))
    with pytest.raises(InputError, match="more than 100 dictionaries in each other"):
        parse(entry("x", value))


def test_a_shape_of_everything() -> None:
    """A shape that promises more than is there allocates nothing."""
    tensor = message(3, message(1, b"\xff\xff\xff\x7f\xff\xff\xff\x7f")) + bytes([8, 1])
    found = parse(entry("x", message(13, tensor + message(4, message(1, b"\0\0\0\0")))))
    with pytest.raises(InputError, match="1 values for an array of the shape"):
        _ = found["x"].array


def test_sums_of_sums() -> None:
    """A sum of a value with itself, 60 times over, stays as many operations."""
    case = cases()["rnn"]
    top = parse(case.data)
    functions = top["primitive_functions"]
    (plus,) = (f for f in functions if f["op"] == 19 and any("Parameter" in i for i in f["inputs"]))
    before = next(i for i in plus["inputs"] if "Parameter" in i)
    for k in range(60):
        functions.append({
            "type": "PrimitiveFunction", "uid": f"Plus{10**6 + k}", "op": 19,
            "inputs": [before, before], "attributes": {},
        })  # fmt: skip
        before = f"Plus{10**6 + k}_Output_0"
    plus["inputs"] = [before if "Parameter" in i else i for i in plus["inputs"]]
    started = time.process_time()
    assert read(case, lambda: from_dictionary(top))
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (b"", InputError, "the file is empty"),
        (b"B\0C\0N\0" + bytes(40), UnsupportedError, "CNTK 1"),
        (b"\x08\x03", InputError, "it holds 'None', not a function"),
        (b"PK\x03\x04" + bytes(30), InputError, "not a whole CNTK model"),
    ],
)
def test_other_files(data: bytes, error: type[SolError], words: str) -> None:
    with pytest.raises(error, match=words):
        load(data)


def test_functions_of_users() -> None:
    """Code of a user is not in the file; nothing of the file is ever run."""
    top = parse(cases()["dense"].data)
    top["primitive_functions"][0]["type"] = "UserDefinedFunction"
    with pytest.raises(UnsupportedError, match="its code is not in the file"):
        from_dictionary(top)
