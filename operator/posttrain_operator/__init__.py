"""The operator: it brings clusters to what TrainingRuns and AdapterDeployments say, and says what it saw."""
