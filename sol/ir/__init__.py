"""The intermediate forms: scalar and index expressions, graphs, loop nests."""
