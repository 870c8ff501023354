"""Makes fixtures/geometry.npz: where CNTK 2.7 puts windows, for random settings.

Needs CNTK, so Python 3.6: `python tests/cntk/make_geometry.py`. Each row of `settings` has the
columns of COLUMNS; `inputs`, `weights` and `outputs` hold the numbers of one row after the other.
Inputs have one or two channels, or no axis of channels (0), and one spatial axis, as every axis is
by itself.
"""

import re
import sys
import tempfile
from pathlib import Path

import cntk as C  # noqa: N812
import numpy as np

COLUMNS = (
    "kind", "channels", "size", "kernel", "stride", "auto", "low", "high", "ceil", "included",
    "maps", "wanted", "count",
)  # fmt: skip
MAX, AVERAGE, CONVOLUTION, TRANSPOSED = range(4)
RNG = np.random.RandomState(11)
TRIES = 900


def draw():
    """Random settings; CNTK refuses some of them."""
    row = dict.fromkeys(COLUMNS, 0)
    row["kind"] = RNG.randint(4)
    row["channels"], row["size"] = RNG.randint(1, 3), RNG.randint(1, 13)
    row["kernel"], row["stride"] = RNG.randint(1, 6), RNG.randint(1, 5)
    row["auto"] = RNG.randint(2)
    if row["kind"] in (MAX, AVERAGE):
        row["ceil"], row["included"] = RNG.randint(2), RNG.randint(2)
        if not row["auto"] and RNG.randint(2):
            row["low"], row["high"], row["channels"] = RNG.randint(0, 3), RNG.randint(0, 3), 0
    else:
        row["maps"] = RNG.randint(1, 3)
    if row["kind"] == TRANSPOSED and RNG.randint(2):
        row["wanted"] = (row["size"] - 1) * row["stride"] + RNG.randint(1, 6)
    return {name: int(value) for name, value in row.items()}


def compute(row):
    """The numbers of a row: input, weight (or none), output."""
    shape = (row["channels"], row["size"])[0 if row["channels"] else 1 :]
    given = RNG.randint(-9, 10, shape).astype(np.float32)
    v = C.input_variable(given.shape)
    weight = np.zeros(0, np.float32)
    kernel, strides, auto = (row["kernel"],), (row["stride"],), bool(row["auto"])
    if row["kind"] == CONVOLUTION:
        weight = RNG.randint(-9, 10, (row["maps"], row["channels"], *kernel)).astype(np.float32)
        node = C.convolution(C.Constant(weight), v, strides, auto_padding=[False, auto])
    elif row["kind"] == TRANSPOSED:
        weight = RNG.randint(-9, 10, (row["channels"], row["maps"], *kernel)).astype(np.float32)
        shape = (row["maps"], row["wanted"]) if row["wanted"] else None
        node = C.convolution_transpose(
            C.Constant(weight), v, strides, auto_padding=[False, auto], output_shape=shape
        )
    else:
        kind = C.MAX_POOLING if row["kind"] == MAX else C.AVG_POOLING
        node = C.pooling(v, kind, kernel, strides, [auto], bool(row["ceil"]), bool(row["included"]))
        if row["low"] or row["high"]:
            node = padded(node, row["low"], row["high"])
    return given, weight, node.eval(given[None])[0]


def padded(node, low, high):
    """A pooling with padding that is given, which Python's functions do not offer: the file says
    so."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.model"
        node.save(str(path))
        data = path.read_bytes()
        for name, value in ((b"lowerPad", low), (b"upperPad", high)):
            pattern = name + rb"(\x12.{1,8}\x4a\x03\x0a\x01)\x00"
            place = re.search(pattern, data, re.S).end() - 1
            data = data[:place] + bytes([value]) + data[place + 1 :]
        path.write_bytes(data)
        return C.load_model(str(path))


def main(path):
    settings, numbers, refused = [], ([], [], []), 0
    for _ in range(TRIES):
        row = draw()
        try:
            found = compute(row)
        except Exception:
            refused += 1
            continue
        if not np.isfinite(found[2]).all():  # an average of nothing
            continue
        row["count"] = found[2].shape[-1]
        settings.append([row[name] for name in COLUMNS])
        for kept, each in zip(numbers, found):
            kept.append(each.ravel())
    inputs, weights, outputs = (np.concatenate(kept) for kept in numbers)
    np.savez_compressed(
        str(path),
        settings=np.array(settings, np.int16),
        inputs=inputs.astype(np.int8),
        weights=weights.astype(np.int8),
        outputs=outputs.astype(np.float32),
    )
    print(len(settings), "settings;", refused, "that CNTK refuses")


if __name__ == "__main__":
    main(Path(__file__).parent / "fixtures" / "geometry.npz" if len(sys.argv) < 2 else sys.argv[1])
