"""`kubectl posttrain`: what a person does with TrainingRuns and AdapterDeployments at a terminal."""
