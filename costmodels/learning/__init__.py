"""Learning with torch: kernels as tensors, layers, losses, the one training loop, calibration."""
