"""Symbol files: what is read of all versions, and what is said of what is no such file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sol.core.errors import InputError, UnsupportedError
from sol.mxnet.symbol import SymbolNode, parse_symbol, read_symbol
from sol.mxnet.translate import inputs_of, read


def variable(name: str) -> dict[str, Any]:
    return {"op": "null", "name": name, "inputs": []}


def test_the_files_of_mxnet_0_8_keep_attributes_elsewhere_and_leave_states_out() -> None:
    nodes = [
        {**variable("data"), "param": {}, "backward_source_id": -1},
        {"op": "BatchNorm", "param": {"eps": "0.1"}, "name": "bn", "inputs": [[0, 0]],
         "attr": {"lr_mult": "2"}, "backward_source_id": -1},
    ]  # fmt: skip
    graph = parse_symbol(json.dumps({"nodes": nodes, "arg_nodes": [0], "heads": [[1, 0]]}))
    assert graph.variables == (
        "data", "bn_gamma", "bn_beta", "bn_moving_mean", "bn_moving_var"
    )  # fmt: skip
    assert graph.nodes[-1] == SymbolNode(
        "BatchNorm", "bn", {"eps": "0.1", "lr_mult": "2"}, ((0, 0), (1, 0), (2, 0), (3, 0), (4, 0))
    )
    assert graph.outputs == ("bn_output",)


def test_labels_are_no_inputs() -> None:
    nodes = [
        variable("data"), variable("label"),
        {"op": "SoftmaxOutput", "name": "softmax", "inputs": [[0, 0], [1, 0]]},
    ]  # fmt: skip
    graph = parse_symbol(json.dumps({"nodes": nodes, "heads": [[2, 0]]}))
    assert [n.name for n in inputs_of(graph, {})] == ["data"]


GOOD = {
    "nodes": [variable("x"), {"op": "relu", "name": "y", "inputs": [[0, 0]]}],
    "heads": [[1, 0]],
}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "nothing for 'nodes'"),
        ('{"nodes": 3}', "a int for 'nodes'"),
        ('{"nodes": [], "heads": []}', "has no nodes"),
        (json.dumps({**GOOD, "heads": []}), "has no heads"),
        (json.dumps({**GOOD, "heads": [[2, 0]]}), r"a head is \[2, 0\]"),
        (json.dumps({**GOOD, "heads": [[1, -1]]}), r"a head is \[1, -1\]"),
        (json.dumps({**GOOD, "nodes": [{"name": "y"}]}), "node 0: nothing for 'op'"),
        (json.dumps({**GOOD, "nodes": [{"op": "relu", "name": "y", "inputs": [[0, 0]]}]}),
         "node 0 'y': an input is"),
        (json.dumps({**GOOD, "nodes": [{**variable("x"), "attrs": {"a": 3}}]}),
         "an attribute is no text"),
    ],
)  # fmt: skip
def test_what_is_no_symbol(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_symbol(text)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a-symbol\.json cannot be read"):
        read_symbol(tmp_path / "a-symbol.json")


def wrong(nodes: list[dict[str, Any]], head: int = 0) -> Any:
    graph = parse_symbol(json.dumps({"nodes": nodes, "heads": [[len(nodes) - 1, head]]}))
    return read(graph, {}, {})


def ones(**more: Any) -> dict[str, Any]:
    return {"op": "_ones", "name": "one", "inputs": [], "attrs": {"shape": "(2, 3)"}, **more}


@pytest.mark.parametrize(
    ("nodes", "head", "message"),
    [
        ([variable("x")], 0, "no array for the variable x"),
        ([ones(op="Nothing")], 0, "Nothing (node one) is not supported: Sol has no row for it"),
        ([ones(attrs={"shape": "(a)"})], 0, "node one: _ones: shape is '(a)'"),
        ([ones(attrs={"form": "3"})], 0, "_ones (node one) is not supported: the attribute form="),
        ([ones(attrs={"dtype": "float64"})], 0, "Sol computes in float32, not in f64"),
        ([ones(), {"op": "relu", "name": "y", "inputs": []}], 0, "node y: relu has 0 inputs"),
        ([ones(), {"op": "relu", "name": "y", "inputs": [[0, 0]]}], 3, "result 3 of node y"),
        ([ones(), {"op": "relu", "name": "y", "inputs": [[0, 1]]}], 0, "result 1 of node one"),
        ([ones(), {"op": "clip", "name": "y", "inputs": [[0, 0]]}], 0, "clip has no attribute"),
        ([ones(attrs={"shape": "(99999999, 99999999)"})], 0, "bytes"),
        ([ones(), {"op": "SliceChannel", "name": "y", "inputs": [[0, 0]],
          "attrs": {"num_outputs": "2"}}], 0, "node y: SliceChannel: cuts 3 elements into 2"),
    ],
)  # fmt: skip
def test_errors_name_the_node(nodes: list[dict[str, Any]], head: int, message: str) -> None:
    with pytest.raises((InputError, UnsupportedError)) as raised:
        wrong(nodes, head)
    assert message in str(raised.value)
