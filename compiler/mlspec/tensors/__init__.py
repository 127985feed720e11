"""What all runners of tensors share as a spec is compiled: signatures, batching, steps before and after the model."""
