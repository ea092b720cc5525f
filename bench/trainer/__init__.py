"""Speed of the trainer against TRL's own command line: the same model, data, settings and machine."""
