//! Handwritten digits, and what a camera may do to them.

use std::path::Path;

use papilio::generator::Generator;

pub(crate) const PIXELS: usize = 64;
pub(crate) const CLASSES: usize = 10;
/// Images that the network is pretrained on, and that labels for a new camera come from; the others are for the test.
pub(crate) const KNOWN: usize = 1200;

/// Images row after row, and their labels.
#[derive(Clone)]
pub(crate) struct Set {
    pub(crate) images: Vec<f32>,
    pub(crate) labels: Vec<usize>,
}

impl Set {
    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    pub(crate) fn image(&self, at: usize) -> &[f32] {
        &self.images[at * PIXELS..(at + 1) * PIXELS]
    }

    /// The images at these places.
    pub(crate) fn pick(&self, places: &[usize]) -> Self {
        let images = places.iter().flat_map(|at| self.image(*at)).copied().collect();
        Self { images, labels: places.iter().map(|at| self.labels[*at]).collect() }
    }

    /// `count` images drawn with replacement.
    pub(crate) fn batch(&self, count: usize, generator: &mut Generator) -> Self {
        let places: Vec<usize> = (0..count).map(|_| generator.below(self.len() as u64) as usize).collect();
        self.pick(&places)
    }
}

/// The images of one camera: known ones and those for the test, less the mean image of the known ones.
pub(crate) struct Camera {
    pub(crate) name: &'static str,
    pub(crate) known: Set,
    pub(crate) test: Set,
}

impl Camera {
    /// What `bend` makes of every image.
    pub(crate) fn new(name: &'static str, all: &Set, mut bend: impl FnMut(&[f32]) -> Vec<f32>) -> Self {
        let mut images: Vec<f32> = (0..all.len()).flat_map(|at| bend(all.image(at))).collect();
        let mut mean = [0.0f32; PIXELS];
        for image in images[..KNOWN * PIXELS].chunks_exact(PIXELS) {
            mean.iter_mut().zip(image).for_each(|(mean, x)| *mean += x / KNOWN as f32);
        }
        for image in images.chunks_exact_mut(PIXELS) {
            image.iter_mut().zip(&mean).for_each(|(x, mean)| *x -= mean);
        }
        let test = Set { images: images.split_off(KNOWN * PIXELS), labels: all.labels[KNOWN..].to_vec() };
        Self { name, known: Set { images, labels: all.labels[..KNOWN].to_vec() }, test }
    }

    /// The camera that the network was pretrained with.
    pub(crate) fn original(all: &Set) -> Self {
        Self::new("original", all, <[f32]>::to_vec)
    }

    /// Mounted so that images come mirrored and transposed: a quarter turn.
    pub(crate) fn turned(all: &Set) -> Self {
        let place = |row: usize, column: usize| column * 8 + 7 - row;
        Self::new("mirrored and transposed", all, |x| (0..PIXELS).map(|i| x[place(i / 8, i % 8)]).collect())
    }

    /// Pixels in a random order, always the same one.
    pub(crate) fn shuffled(all: &Set) -> Self {
        let mut order: Vec<usize> = (0..PIXELS).collect();
        Generator::new(5).shuffle(&mut order);
        Self::new("pixels shuffled", all, |x| order.iter().map(|i| x[*i]).collect())
    }

    /// A lamp flickers: all pixels are brighter by the same, up to 37.5 times the brightest grey, another amount in every image.
    /// No rotation takes that away, W·(I − ppᵀ) does, a change of rank 1 (p the constant image).
    pub(crate) fn flickering(all: &Set) -> Self {
        let mut generator = Generator::new(9);
        Self::new("flickering lamp", all, |x| {
            let light = 37.5 * generator.uniform() as f32;
            x.iter().map(|x| x + light).collect()
        })
    }
}

/// All digits in an order of chance, grey values from 0 to 1.
pub(crate) fn digits() -> Result<Set, Box<dyn std::error::Error>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/digits/digits.csv");
    let text = std::fs::read_to_string(path)?;
    let mut rows = Vec::new();
    for line in text.lines() {
        let numbers = line.split(',').map(str::parse).collect::<Result<Vec<u8>, _>>()?;
        if numbers.len() != PIXELS + 1 || usize::from(numbers[PIXELS]) >= CLASSES {
            return Err(format!("not 64 grey values and a digit: {line}").into());
        }
        rows.push(numbers);
    }
    Generator::new(0).shuffle(&mut rows);
    let images = rows.iter().flat_map(|row| row[..PIXELS].iter().map(|x| f32::from(*x) / 16.0)).collect();
    Ok(Set { images, labels: rows.iter().map(|row| usize::from(row[PIXELS])).collect() })
}
