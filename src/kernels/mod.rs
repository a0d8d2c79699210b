//! SIMD kernels over slices, each with a plain twin; the only place for `unsafe`.
