"""Front ends: ways to write a function that becomes a circuit."""
