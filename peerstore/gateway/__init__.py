"""What nodes and clients both need of the ring: locate, put, get, complete reads."""
