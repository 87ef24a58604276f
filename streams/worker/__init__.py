"""The worker: a Faust application around the engine, on a real Kafka and Redis."""
