//! Images and their classes.

use candle_core::{DType, Device, Tensor};

use super::{AT_ONCE, Tally, check};
use crate::error::{Result, input};
use crate::models::{Model, Vit};
use crate::ops;
use crate::train::{Score, Task};

/// Square images of one size, `channels·size·size` numbers each, with their classes.
#[derive(Debug, Clone, PartialEq)]
pub struct Pictures {
    pixels: Vec<f64>,
    classes: Vec<u32>,
    shape: [usize; 3],
    dtype: DType,
}

impl Pictures {
    /// Of `channels` and `size`.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) unless there are as many numbers as the classes ask for.
    pub fn new(pixels: Vec<f64>, classes: Vec<u32>, channels: usize, size: usize, dtype: DType) -> Result<Self> {
        let expected = [channels, size, size].iter().try_fold(classes.len(), |product, n| product.checked_mul(*n));
        if expected != Some(pixels.len()) {
            let expected = format!("{channels}·{size}·{size} numbers for each of {} images", classes.len());
            return input("pixels", expected, pixels.len());
        }
        Ok(Self { pixels, classes, shape: [channels, size, size], dtype })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    fn batch(&self, examples: &[usize]) -> Result<(Tensor, Tensor)> {
        check(examples, self.len())?;
        let each: usize = self.shape.iter().product();
        let image = |&i: &usize| self.pixels[i * each..(i + 1) * each].iter().copied();
        let pixels: Vec<f64> = examples.iter().flat_map(image).collect();
        let [channels, height, width] = self.shape;
        let images = Tensor::from_vec(pixels, (examples.len(), channels, height, width), &Device::Cpu)?;
        let classes: Vec<u32> = examples.iter().map(|&i| self.classes[i]).collect();
        Ok((images.to_dtype(self.dtype)?, Tensor::from_vec(classes, examples.len(), &Device::Cpu)?))
    }
}

/// Telling classes of images apart.
#[derive(Debug)]
pub struct Images<'a> {
    network: &'a Vit,
    train: &'a Pictures,
    held_out: &'a Pictures,
}

impl<'a> Images<'a> {
    /// By a ViT-like model.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) for another model.
    pub fn new(model: &'a Model, train: &'a Pictures, held_out: &'a Pictures) -> Result<Self> {
        Ok(Self { network: model.vit()?, train, held_out })
    }
}

impl Task for Images<'_> {
    fn len(&self) -> usize {
        self.train.len()
    }

    fn loss(&self, examples: &[usize]) -> Result<Tensor> {
        let (images, classes) = self.train.batch(examples)?;
        Ok(ops::cross_entropy(&self.network.logits(&images)?, &classes)?)
    }

    fn evaluate(&self) -> Result<Score> {
        let mut tally = Tally::default();
        for examples in (0..self.held_out.len()).collect::<Vec<_>>().chunks(AT_ONCE) {
            let (images, classes) = self.held_out.batch(examples)?;
            tally.add(&self.network.logits(&images)?.detach(), &classes)?;
        }
        tally.score()
    }
}
