"""The protocol: transformations, recorded calls, leaves and dtypes. Imports nothing else of the package."""
