"""Front ends: libraries in which a function can be written and traced into a circuit."""
