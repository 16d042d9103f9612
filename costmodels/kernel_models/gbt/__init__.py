"""TVM's boosted trees over the stages of a program, with online retraining."""
