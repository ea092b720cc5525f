"""TrainingRun: observe, plan, and what becomes of it."""
