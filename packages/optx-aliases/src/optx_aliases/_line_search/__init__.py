"""Line searches, and the optimizers built on them."""
