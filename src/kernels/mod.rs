//! Numeric kernels over slices; the only place for `unsafe`.
//!
//! A kernel is one plain body, generic over whether multiply-add is fused, compiled once for any
//! machine (the plain twin) and again under the vector extensions that the machine is asked for at
//! run time. Tests compare the two.

pub mod attention;
pub mod attention_backward;
pub mod backward;
pub mod conv3x3;
pub mod depthwise;
pub mod depthwise2d;
pub mod gemm;
pub mod int8;
pub mod log;
pub mod map;
pub mod matmul;
pub mod norm;
pub mod rows;
pub mod thin;

/// `a * b + c`, fused where the instruction set has it (a library call elsewhere, hence the switch).
#[inline(always)]
fn mul_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Which instruction set the kernels run on here.
pub fn instruction_set() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if has_avx512() {
            return "avx512";
        }
        if has_avx2() {
            return "avx2";
        }
    }
    "portable"
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") && has_avx2()
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// Declares a kernel: `name` runs `body::<FMA>` under the best instruction set of this machine.
macro_rules! kernel {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $body:ident) => {
        $(#[$doc])*
        $vis fn $name($($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
                fn avx512($($arg: $ty),*) {
                    $body::<true>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) {
                    $body::<true>($($arg),*)
                }
                if super::has_avx512() {
                    // SAFETY: the processor was just asked for every feature that is enabled.
                    return unsafe { avx512($($arg),*) };
                }
                if super::has_avx2() {
                    // SAFETY: the same.
                    return unsafe { avx2($($arg),*) };
                }
            }
            $body::<false>($($arg),*)
        }
    };
}
pub(crate) use kernel;
