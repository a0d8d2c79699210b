//! Functions that gradients pass.
//!
//! Candle's graph takes operations of one, two or three tensors. What a layer has to say about itself
//! is less than candle asks for: values that come in, values that go out, and the gradients of those
//! that are wanted. A [`Function`] says this, and is made an operation here.

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, Device, Error, Layout, Result, Shape, Storage,
    Tensor,
};

use crate::nn::ops::values;
use crate::nn::params::Parameter;

/// The values of a tensor, row-major, and its shape.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub values: &'a [f32],
    pub dims: &'a [usize],
}

/// What a function gives.
pub(crate) type Output = Result<(Vec<f32>, Shape)>;

/// What is known when the gradient has come as far as the output of a function.
pub(crate) struct Backward<'a, const N: usize> {
    /// What came in.
    pub x: [View<'a>; N],
    /// What went out.
    pub out: View<'a>,
    /// The gradient of what went out.
    pub grad: &'a [f32],
    /// Which gradients are asked for.
    pub wanted: [bool; N],
}

/// A function of `N` tensors with its gradient.
pub(crate) trait Function<const N: usize>: Send + Sync {
    /// Its name, for errors.
    fn name(&self) -> &'static str;

    /// What it gives.
    fn forward(&self, x: [View; N]) -> Output;

    /// The gradients of what came in, in the same order; those that are not wanted may be left out.
    fn backward(&self, at: Backward<N>) -> Result<[Option<Vec<f32>>; N]>;
}

/// Whether gradients may be asked for through `x` or of one of `parameters`.
pub(crate) fn tracks<'a>(x: &Tensor, parameters: impl IntoIterator<Item = &'a Parameter>) -> bool {
    x.track_op() || parameters.into_iter().any(Parameter::is_trained)
}

/// `f(x)`, as one operation of candle's graph.
pub(crate) fn call1(f: impl Function<1> + 'static, x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Node(f))
}

/// `f(x, y)`, the same.
pub(crate) fn call2(f: impl Function<2> + 'static, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2(&y.contiguous()?, Node(f))
}

/// `f(x, y, z)`, the same.
pub(crate) fn call3(
    f: impl Function<3> + 'static,
    x: &Tensor,
    y: &Tensor,
    z: &Tensor,
) -> Result<Tensor> {
    x.contiguous()?
        .apply_op3(&y.contiguous()?, &z.contiguous()?, Node(f))
}

/// `f(x, weight)` or `f(x, weight, bias)`.
pub(crate) fn call_layer<F>(
    f: F,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Parameter>,
) -> Result<Tensor>
where
    F: Function<2> + Function<3> + 'static,
{
    match bias {
        None => call2(f, x, weight),
        Some(bias) => call3(f, x, weight, &bias.tensor()?),
    }
}

/// A function as an operation of candle's graph.
struct Node<F>(F);

fn view<'a>(storage: &'a CpuStorage, layout: &'a Layout, name: &'static str) -> Result<View<'a>> {
    Ok(View {
        values: values(storage, layout, name)?,
        dims: layout.dims(),
    })
}

fn run<const N: usize>(f: &impl Function<N>, x: [View; N]) -> Result<(CpuStorage, Shape)> {
    let (out, shape) = f.forward(x)?;
    Ok((CpuStorage::F32(out), shape))
}

/// The gradients of `x`, as tensors of their shapes.
fn pass_back<const N: usize>(
    f: &impl Function<N>,
    x: [&Tensor; N],
    out: &Tensor,
    grad: &Tensor,
) -> Result<[Option<Tensor>; N]> {
    let wanted = x.map(Tensor::track_op);
    let (out, grad) = (out.contiguous()?, grad.contiguous()?);
    let mut tensors = Vec::with_capacity(N + 2);
    for x in x {
        tensors.push(x.contiguous()?);
    }
    tensors.extend([out, grad]);
    let held: Vec<_> = tensors.iter().map(Tensor::storage_and_layout).collect();
    let views = held
        .iter()
        .map(|(storage, layout)| match &**storage {
            Storage::Cpu(storage) => view(storage, layout, f.name()),
            _ => Err(Error::Msg(format!("{}: expected the CPU", f.name()))),
        })
        .collect::<Result<Vec<_>>>()?;
    let grads = f.backward(Backward {
        x: std::array::from_fn(|i| views[i]),
        out: views[N],
        grad: views[N + 1].values,
        wanted,
    })?;
    let mut tensors = std::array::from_fn(|_| None);
    for ((tensor, grad), (x, wanted)) in tensors.iter_mut().zip(grads).zip(x.iter().zip(wanted)) {
        if let (Some(grad), true) = (grad, wanted) {
            *tensor = Some(Tensor::from_vec(grad, x.shape(), &Device::Cpu)?);
        }
    }
    Ok(tensors)
}

impl<F: Function<1>> CustomOp1 for Node<F> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        run(&self.0, [view(x, layout, self.0.name())?])
    }

    fn bwd(&self, x: &Tensor, out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let [x] = pass_back(&self.0, [x], out, grad)?;
        Ok(x)
    }
}

impl<F: Function<2>> CustomOp2 for Node<F> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let name = self.0.name();
        run(
            &self.0,
            [view(x, x_layout, name)?, view(y, y_layout, name)?],
        )
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok(pass_back(&self.0, [x, y], out, grad)?.into())
    }
}

impl<F: Function<3>> CustomOp3 for Node<F> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
        z: &CpuStorage,
        z_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let name = self.0.name();
        let x = [
            view(x, x_layout, name)?,
            view(y, y_layout, name)?,
            view(z, z_layout, name)?,
        ];
        run(&self.0, x)
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        z: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        Ok(pass_back(&self.0, [x, y, z], out, grad)?.into())
    }
}
