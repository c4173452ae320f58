"""What the phases are made of; usable from a notebook, without orchestrator or tracker."""
