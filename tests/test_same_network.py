"""A network is a network, whichever framework wrote it: the same plan and the same numbers.

benchmarks/same_network.py does this with ResNet-50; here its blocks are fewer and narrower.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def by_pytorch() -> Iterator[tuple[Any, Any, Any, Any]]:
    """A network of PyTorch with images, and by Sol with its results. Kernels are chosen for a
    number of threads, so it is the same for all frameworks."""
    pytest.importorskip("tensorflow")
    from benchmarks import same_network as same

    disabled, logging.root.manager.disable = logging.root.manager.disable, logging.WARNING
    module, images = same.prepared(same.resnet((1, 2, 1, 1), 16, 10), 48)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOL_THREADS", "1")
        written = same.by_pytorch(module, images)
        yield module, images, written, written.run(images)
    logging.root.manager.disable = disabled


@pytest.mark.parametrize("framework", ["ONNX", "Keras", "MXNet"])
def test_a_resnet_is_the_same_network(framework: str, by_pytorch: Any) -> None:
    from benchmarks import same_network as same

    module, images, first, expected = by_pytorch
    with np.errstate(all="ignore"):
        written = same.FRAMEWORKS[framework](module, images)
    assert same.difference(written.run(images), expected) <= same.ALLOWED
    assert first.plan.total() >= 20
    assert written.plan == first.plan
