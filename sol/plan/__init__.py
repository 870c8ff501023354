"""From a graph to clusters, buffers and memory."""
