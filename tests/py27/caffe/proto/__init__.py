"""The messages of the stand-in."""
