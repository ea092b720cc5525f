"""Tries an environment without cluster and GPU: `python -m posttrain_trainer --test-environment run.json`."""
