"""Graph to graph transformations, each a pure function."""
