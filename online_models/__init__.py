"""River models that learn online, and the compiled kernels that score them (pure)."""
