"""How an answer is scored: one file for each kind of reward."""
