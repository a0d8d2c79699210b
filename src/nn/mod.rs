//! Layers: the batch form for training and the per-frame form for live use.
