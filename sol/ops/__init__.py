"""The operators: one entry each, in one file per family. Importing this package fills the table `OPS`."""
