"""What runs inside the workers; imports nothing else of canvod.launch."""
