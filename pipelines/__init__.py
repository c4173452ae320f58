"""The only place that knows ZenML."""
