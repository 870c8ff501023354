"""What every other part of Sol builds on: errors, configuration, devices, sizes and data types.

Nothing in here imports another part of Sol, and nothing imports a framework.
"""
