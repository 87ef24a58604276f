"""River's Hoeffding trees, adaptive forests and half-space trees as flat arrays, and back."""
