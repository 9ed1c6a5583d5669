"""The winner leaves the workshop: ONNX, TensorRT engines, and copy-synthesis."""
