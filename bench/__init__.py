"""How fast a planned call is beside the library's own: ``python -m bench``."""
