"""Training, judging and explaining models with the data sets of this project."""
