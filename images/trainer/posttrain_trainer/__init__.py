"""The trainer: one run.json in, one report out. It trains, measures, and publishes an artifact under its digest.

`python -m posttrain_trainer --config run.json` is the program of the trainer image and works without a cluster too.
"""
