"""How equations for one array become a transformation of trees. Imports the protocol."""
