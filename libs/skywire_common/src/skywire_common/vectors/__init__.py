"""Check golden vectors, ours or another implementation's, against this code (docs/wire-format.md, Vectors)."""
