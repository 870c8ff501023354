"""How contractions are computed."""
