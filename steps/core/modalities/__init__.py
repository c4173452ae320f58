"""What a sample is; one package for each kind of raw data."""
