"""The engine: the map of its parts, and a picture that follows one while it runs."""
