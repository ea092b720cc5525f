"""A module that is never there."""

import time

time.sleep(600)
