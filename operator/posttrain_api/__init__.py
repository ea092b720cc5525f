"""The contract of posttrain: what users write, what the operator, the trainer and the server say to each other.

Imported by everyone, imports nobody but pydantic and the standard library.
"""
