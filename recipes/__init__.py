"""The recipes that come with sepkit: one YAML file a result."""
