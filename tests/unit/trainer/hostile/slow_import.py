"""A module that is never there."""

import signal

signal.pause()
