"""Models for others: encoders as ONNX files, and pipelines on the Hugging Face Hub."""
