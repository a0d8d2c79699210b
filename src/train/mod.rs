//! Fine-tuning mode: data, augmentation, trainer, metrics.
