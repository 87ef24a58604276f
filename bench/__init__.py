"""Benchmarks: what each part costs per event, beside what it could not go below."""
