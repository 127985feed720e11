"""Models in ONNX, by onnxruntime."""
