"""Sources, column mappings, the traffic simulator, the player and its reports."""
