"""A measurement of a sketch comes in; predictions for any deletion, with errors and warnings, go out."""
