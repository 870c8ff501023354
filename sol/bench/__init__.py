"""`sol bench`: networks by name, rivals in processes of their own, rounds measured in turn.

`zoo` builds a network from a name, `randomise` gives it weights that hide nothing, `rivals` is the
table of what can run it, `worker` is the process that one of them runs in, `session` holds the
workers and measures them, `results` are the records and `table` shows them. Only the command line
and the scripts in benchmarks/ import this package.
"""
