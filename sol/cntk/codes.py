"""The numbers that CNTK gives its operations, with their names (PrimitiveOpType.h of CNTK 2.7).

Numbers are part of the file format: new ones were only ever appended.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_IN_ORDER = """
    Negate Sigmoid Tanh ReLU Exp Log Sqrt Floor Abs Reciprocal
    Softmax Hardmax TransposeAxes Where Slice Dropout Reshape Pooling SumAll Plus
    Minus ElementTimes Equal NotEqual Less LessEqual Greater GreaterEqual PackedIndex GatherPacked
    ScatterPacked Times TransposeTimes Convolution SquaredError
    CrossEntropyWithSoftmax ClassificationError PastValue FutureValue ReduceElements
    BatchNormalization Clip Select Splice Combine
    RandomSample RandomSampleInclusionFrequency ROIPooling Logistic OptimizedRNNStack
    ReconcileDynamicAxis LogSoftmax LogPlus CosDistance Sin Cos Pass Block Unpooling LambdaRank
    NDCG EditDistanceError NoOp LabelsToGraph StopGradient
    ELU ForwardBackward CosDistanceWithNegativeSamples OneHot Pow
    ToSequence ToSequenceLike UnpackSequence Assign Gather
    StableSigmoid RandomDistribution Sinh Cosh UnpackBatch
    ToBatch Asin Acos Pad Crop Atanh Asinh TopK Squeeze ConstantOp
    LatticeSequenceWithSoftmax Cast EyeLike CustomProxy StraightThrough
    Tan Atan ConvolutionSequenceShape
"""
NAMES = dict(enumerate(_IN_ORDER.split()))
CODES = {name: code for code, name in NAMES.items()}
BLOCK, COMBINE = CODES["Block"], CODES["Combine"]
TIMES, TRANSPOSE_TIMES = CODES["Times"], CODES["TransposeTimes"]
SIGMOID = (CODES["StableSigmoid"], CODES["Sigmoid"])  # two ways to write one function


def name_of(code: int) -> str:
    """The name of an operation, or its number."""
    return NAMES.get(code, f"operation {code}")


def results_of(code: int, attributes: Mapping[str, Any]) -> int:
    """How many results an operation has."""
    if code == CODES["TopK"]:
        return 2
    if code == CODES["UnpackSequence"]:
        return 1 if attributes.get("sequenceUnpackSuppressMaskOutput") else 2
    return 1
