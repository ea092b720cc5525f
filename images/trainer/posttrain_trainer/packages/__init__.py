"""Environments that a package brings: their rows and their own scoring; imported where they are named only."""
