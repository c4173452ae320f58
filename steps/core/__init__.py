"""What the phases are made of, room by room; usable from a notebook, without orchestrator or tracker."""
