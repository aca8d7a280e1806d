"""The attribution libraries that people use, on trainings of this bench: what compare_attribution.py compares.

`settings` has the trainings, the subsets and what is measured, in NumPy alone; `twins` the same models in PyTorch,
trained on the same batches in the same order; `libraries` the methods, each imported on its first use.
"""
