"""Numba kernels of the feature path: free functions over arrays."""
