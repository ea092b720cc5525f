"""What the demo's tests share."""

import os

from examples.demo.base import PATIENT_THREADS

# As the demo itself does; it is read with torch.
os.environ.update(PATIENT_THREADS)
