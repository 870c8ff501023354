"""Named sets of networks through `sol bench`: `python benchmarks/run.py vision [--json FILE]`.

Every figure that Sol publishes comes from here: a suite says which networks, batch sizes and
rivals, so that it can be measured again.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field

from sol.cli import main

_ENGINES = ("inductor", "inductor-freezing", "openvino", "onnxruntime", "ncnn")


@dataclass(frozen=True)
class Suite:
    """Networks, batch sizes and rivals that belong together."""

    networks: tuple[str, ...]
    batches: tuple[int, ...] = (1,)
    rivals: tuple[str, ...] = field(default=("eager", "channels_last", *_ENGINES))


SUITES = {
    "quick": Suite(("resnet18", "mobilenet_v2"), rivals=("eager", "openvino", "onnxruntime")),
    "vision": Suite(
        (
            "alexnet",
            "vgg16",
            "resnet18",
            "resnet50",
            "densenet121",
            "squeezenet1_0",
            "inception_v3",
            "mobilenet_v2",
            "efficientnet_b0",
            "shufflenet_v2_x1_0",
            "convnext_tiny",
            "vit_b_16",
        )
    ),
    "language": Suite(("bert-base", "distilbert-base", "gpt2-small", "t5-small", "whisper-tiny")),
    "batches": Suite(("resnet50", "mobilenet_v2", "vgg16"), (1, 2, 8, 32)),
    "memory": Suite(("vgg16", "resnet50"), (64,), ("eager", "openvino", "onnxruntime")),
}


def arguments_of(suite: Suite) -> list[str]:
    """The command line that measures a suite."""
    batches = [str(batch) for batch in suite.batches]
    return ["bench", *suite.networks, "--batch", *batches, "--against", *suite.rivals]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="measure a named set of networks")
    parser.add_argument("suite", choices=SUITES)
    chosen, further = parser.parse_known_args()
    sys.exit(main(arguments_of(SUITES[chosen.suite]) + further))
