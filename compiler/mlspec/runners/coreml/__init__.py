"""Core ML packages, as they are or converted from PyTorch by a build. They serve on a Mac alone."""
