"""The engine: lifts equations for one array to transformations of trees. Imports the protocol."""
