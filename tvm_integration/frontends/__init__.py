"""MODEL -> a Relax module: ONNX, torch.export, transformers, the zoo and functions of the user."""
