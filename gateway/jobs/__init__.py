"""Jobs: what one is, who may read it and for how long, and how it is followed to its end."""
