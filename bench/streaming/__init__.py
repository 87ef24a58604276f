"""Side by side with peers: the same questions about the same events, and the same answers."""
