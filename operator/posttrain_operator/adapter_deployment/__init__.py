"""The kind AdapterDeployment: handler -> observe -> plan -> resources, status, adapters -> replicas."""
