"""From loop nests to C text and a native library."""
