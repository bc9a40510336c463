"""Reading an optimizer's state, and laying it out on a mesh."""
