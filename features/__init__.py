"""Records, columns, the expression language, entity histories and window kernels (pure)."""
