"""What calibration computes in kernels."""
