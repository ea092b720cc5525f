"""Functions that score: each file stands alone, for it is all that the place sees where foreign code runs."""
