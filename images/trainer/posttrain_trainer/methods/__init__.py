"""One file for each method: how its trainer is set up from a recipe."""
