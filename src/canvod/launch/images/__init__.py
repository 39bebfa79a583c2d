"""Images: what they are called, what goes into them, and how they come to be."""
