"""Line searches, and what needs the value of the loss."""

ROWS = {}
