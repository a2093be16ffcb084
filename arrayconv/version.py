"""The version, alone: `importlib.metadata` costs 25 ms at import, and rooms above the face name it too."""

__version__ = "0.1.0"
