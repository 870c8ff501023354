"""What runs a compiled network: the cache, the thread pool in C, arenas and programs."""
