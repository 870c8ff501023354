"""What operators' entries name as their `gradient`, one file per family.

A gradient gets a graph builder, the node, the gradient dy of its result and its inputs, appends
nodes, and returns for each input the gradient of `Σ dy · y`, or None where there is none.
"""
