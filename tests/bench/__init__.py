"""What the project claims about speed and detection, measured: `make bench`."""
