"""The processor, its runtimes, state stores, logs and sinks."""
