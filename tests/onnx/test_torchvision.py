"""Networks that PyTorch exports: the same clusters as by the PyTorch frontend, the same results.

benchmarks/onnx_networks.py does this with all classifiers of torchvision.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sol.onnx
from benchmarks.onnx_networks import clusters, exported, graph_of
from sol.bench.zoo import Network
from sol.pytorch.capture import capture

pytestmark = pytest.mark.filterwarnings("ignore")


def squeezenet() -> tuple[Any, int]:
    from torchvision.models import squeezenet1_1

    return squeezenet1_1(num_classes=10), 64


def shufflenet() -> tuple[Any, int]:
    from torchvision.models import shufflenet_v2_x0_5

    return shufflenet_v2_x0_5(num_classes=10), 64


def transformer() -> tuple[Any, int]:
    from torchvision.models import VisionTransformer

    return VisionTransformer(32, 8, 2, 2, 24, 48, num_classes=10), 32


@pytest.mark.parametrize("make", [squeezenet, shufflenet, transformer])
def test_clusters_and_results_are_those_of_pytorch(
    make: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(logging.root.manager, "disable", logging.WARNING)
    torch.manual_seed(0)
    module, size = make()
    for parameter in module.parameters():  # weights that are all 0 or 1 would fold away
        torch.nn.init.normal_(parameter, std=0.2)
    x = torch.randn(2, 3, size, size)
    network = Network("net", module.eval(), (x,))
    file = exported(network, tmp_path)
    assert clusters(graph_of(file)) == clusters(capture(network.module, (x,)).graph)
    session = sol.onnx.optimize(file)
    for batch in (2, 1):
        with torch.no_grad():
            expected = module(x[:batch]).numpy()
        found = session(x[:batch].numpy())
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert len(session.entries) == 1
    assert not session.left
