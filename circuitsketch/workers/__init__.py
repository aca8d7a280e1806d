"""Tasks on other processes and machines, through any `concurrent.futures.Executor`."""
