"""What runs a phase, under any engine: parameters, scratch folder, tracking, registry, failures."""
