//! Rotations on the weights of any module, by burn's own hook.
//!
//! A [`Reparameterization`] makes the value of a parameter from what is stored, each time the parameter is used; burn's LoRA is
//! one. So a model needs no other layers, and its optimisers, records and `materialize` know the rotation's parameters. The
//! price is that the weight is turned, `out` vectors for a pass, and that burn makes a gradient of the turned weight, where
//! [`OrthogonalLinear`](crate::OrthogonalLinear) turns the inputs and needs none.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param, ParamGroup, Reparameterization, Reparameterizer};
use burn::tensor::Tensor;
use papilio::adapter::LayerKind;
use papilio::{Error, Result};

use crate::method::Method;
use crate::rotation::{Rotation, or_panic};

/// Freezes a model and attaches a [`Rotation`] to the weights of its `Linear`, `Conv2d` and (for OFT) `Embedding` layers, which
/// are known by these names.
///
/// ```
/// use burn::module::{Module, ParamGroup};
/// use burn::nn::LinearConfig;
/// use burn::tensor::Device;
/// use papilio_burn::{Method, Rotation, Rotations};
///
/// #[derive(Module, Debug)]
/// struct Model {
///     hidden: burn::nn::Linear,
///     head: burn::nn::Linear,
/// }
/// let device = Device::flex().autodiff();
/// let model = Model { hidden: LinearConfig::new(8, 8).init(&device), head: LinearConfig::new(8, 3).init(&device) };
/// let which = ParamGroup::from_path("hidden.weight");
/// let model = model.clone().apply_reparameterization(Rotations::new(&model, Method::Boft { factors: 2, block: 4 }, &which)?);
/// let rotation: &Rotation = model.hidden.weight.reparameterization().unwrap(); // trained now
/// assert!(rotation.defect()? < 1e-6);
/// let plain = model.materialize(); // the same model without adapters
/// # Ok::<(), papilio::Error>(())
/// ```
#[derive(Debug)]
pub struct Rotations {
    prepared: BTreeMap<String, Rotation>,
}

impl Rotations {
    /// For those weights of this model that are in a group.
    ///
    /// # Errors
    /// Sizes that do not fit, weights that are quantised; [`Error::Size`] if there is no layer to adapt in the group.
    pub fn new<M: Module>(model: &M, method: Method, which: &ParamGroup) -> Result<Self> {
        let mut visitor = Prepare { method, which, path: Vec::new(), kinds: Vec::new(), prepared: Ok(BTreeMap::new()) };
        model.visit(&mut visitor);
        let prepared = visitor.prepared?;
        if prepared.is_empty() {
            let (what, expected) = ("layers to adapt", "a Linear, Conv2d or Embedding in the group".to_string());
            return Err(Error::Size { what, expected, got: "none".to_string() });
        }
        Ok(Self { prepared })
    }

    /// Paths of the weights that will be rotated.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.prepared.keys().map(String::as_str)
    }
}

struct Prepare<'a> {
    method: Method,
    which: &'a ParamGroup,
    path: Vec<String>,
    /// Of the containers.
    kinds: Vec<String>,
    prepared: Result<BTreeMap<String, Rotation>>,
}

impl ModuleVisitor for Prepare<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.push(name.to_string());
        self.kinds.push(container_type.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
        self.kinds.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let kind = match (self.kinds.last().map(String::as_str), D) {
            (Some("Struct:Linear"), 2) => LayerKind::Linear,
            (Some("Struct:Conv2d"), 4) => LayerKind::Conv2d,
            (Some("Struct:Embedding"), 2) if matches!(self.method, Method::Oft { .. }) => LayerKind::Embedding,
            _ => return,
        };
        let path = self.path.join(".");
        let Ok(prepared) = &mut self.prepared else { return };
        if !self.which.matches(&param.id, Some(&path)) {
            return;
        }
        let base = param.base();
        let mut weight = base.dims().to_vec();
        if kind == LayerKind::Linear {
            weight.reverse(); // burn has [in, out]
        }
        match Rotation::new(self.method, kind, &weight, base.dtype(), &base.device()) {
            Ok(rotation) => drop(prepared.insert(path, rotation)),
            Err(error) => self.prepared = Err(error),
        }
    }
}

impl Reparameterizer for Rotations {
    type Reparam = Rotation;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<Rotation>) {
        (param.set_require_grad(false), self.prepared.remove(path))
    }
}

impl Reparameterization for Rotation {
    const NAME: &'static str = "papilio";

    /// The turned weight.
    ///
    /// # Panics
    /// On Flex, for parameters that are not finite.
    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        let shape = base.dims();
        let turned = match self.trainable().kind() {
            LayerKind::Linear => {
                let rows = base.reshape([shape[0], shape[1]]).transpose();
                self.turned(rows).map(Tensor::transpose)
            }
            _ => {
                let inner = shape[1..].iter().product::<usize>();
                self.turned(base.reshape([shape[0], inner]))
            }
        };
        or_panic(turned).reshape(shape)
    }
}
