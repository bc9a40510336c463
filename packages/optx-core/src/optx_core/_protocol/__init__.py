"""What a transformation is, how it is recorded, and what counts as a leaf. Imports nothing else."""
