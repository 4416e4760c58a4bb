"""`panet data check`: what is wrong with a dataset, and its repair."""
