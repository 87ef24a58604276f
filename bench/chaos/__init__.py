"""Faults made on purpose, on a real broker and a real Redis, with a check after each of them."""
