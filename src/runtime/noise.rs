//! Inputs for a model that is run without anyone's data: noise of unit variance, the same on every machine.

use thiserror::Error;

use super::session::{Port, PortDim};
use crate::random::SplitMix64;
use crate::tensor::{Tensor, TensorError, channels_last, element_count};

/// What takes the place of sizes that a model leaves free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// The first dimension.
    pub batch: u32,
    /// Height and width of inputs of four dimensions.
    pub image: Option<[u32; 2]>,
}

impl Sizes {
    /// Those that a model's inputs speak for: the batch that the first one fixes, else one image.
    pub fn of(inputs: &[Port], image: Option<[u32; 2]>) -> Self {
        let batch = match inputs.first().and_then(|port| port.dims.first()) {
            Some(PortDim::Fixed(batch)) => *batch,
            Some(PortDim::Named(_) | PortDim::Unknown) | None => 1,
        };
        Self { batch, image }
    }
}

/// Why there is no input for a model.
#[derive(Debug, Error)]
pub enum NoiseError {
    /// A size is free and was not given.
    #[error("input `{name}` leaves dimension {dim} free, and no size is given for it")]
    Free {
        /// The input.
        name: String,
        /// Which dimension, from 0.
        dim: usize,
    },
    /// The model fixes another size.
    #[error("input `{name}` has {fixed} in dimension {dim}, not {asked}")]
    Fixed {
        /// The input.
        name: String,
        /// Which dimension, from 0.
        dim: usize,
        /// What the model fixes.
        fixed: u32,
        /// What was asked for.
        asked: u32,
    },
    /// The input is larger than allowed.
    #[error("input `{name}` has {elements} elements, more than the {most} allowed")]
    TooLarge {
        /// The input.
        name: String,
        /// Elements it would have.
        elements: u64,
        /// Elements it may have.
        most: u64,
    },
    /// The tensor cannot be made.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// The shape of an input with what is free filled in.
///
/// # Errors
/// If a free size is not given, or a fixed one differs from what is given.
pub fn shape(port: &Port, sizes: Sizes) -> Result<Vec<u32>, NoiseError> {
    let known = |dim: &PortDim| if let PortDim::Fixed(size) = dim { Some(*size) } else { None };
    let spatial = if channels_last(&port.dims.iter().map(known).collect::<Vec<_>>()) { 1 } else { 2 };
    let image = sizes.image.filter(|_| port.dims.len() == 4);
    let given = |dim: usize| match (dim.checked_sub(spatial), image) {
        _ if dim == 0 => Some(sizes.batch),
        (Some(at @ 0..2), Some(image)) => Some(image[at]),
        _ => None,
    };
    let size = |(dim, size): (usize, &PortDim)| match (size, given(dim)) {
        (PortDim::Fixed(fixed), Some(asked)) if asked != *fixed => {
            Err(NoiseError::Fixed { name: port.name.clone(), dim, fixed: *fixed, asked })
        }
        (PortDim::Fixed(fixed), _) => Ok(*fixed),
        (PortDim::Named(_) | PortDim::Unknown, Some(given)) => Ok(given),
        (PortDim::Named(_) | PortDim::Unknown, None) => Err(NoiseError::Free { name: port.name.clone(), dim }),
    };
    port.dims.iter().enumerate().map(size).collect()
}

/// Noise of unit variance for every input, at most `most` elements each.
///
/// # Errors
/// As for [`shape`], and if an input is too large.
pub fn inputs(ports: &[Port], sizes: Sizes, most: u64, seed: u64) -> Result<Vec<(String, Tensor)>, NoiseError> {
    let mut random = SplitMix64::new(seed);
    let input = |port: &Port| {
        let shape = shape(port, sizes)?;
        let elements = element_count(&shape);
        if elements > most {
            return Err(NoiseError::TooLarge { name: port.name.clone(), elements, most });
        }
        let data = (0..elements).map(|_| uniform(random.next()) * 3f32.sqrt()).collect();
        Ok((port.name.clone(), Tensor::new(shape, data)?))
    };
    ports.iter().map(input).collect()
}

/// From -1 to 1.
fn uniform(bits: u64) -> f32 {
    (bits >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;

    fn port(dims: &[Option<u32>]) -> Port {
        let dim = |dim: &Option<u32>| dim.map_or(PortDim::Unknown, PortDim::Fixed);
        Port {
            name: "x".into(),
            dtype: Some(DType::F32),
            element: Some(crate::tensor::array::ElementType::F32),
            dims: dims.iter().map(dim).collect(),
            ty: String::new(),
        }
    }

    #[test]
    fn a_model_speaks_for_its_batch() {
        for (dims, batch) in
            [(&[None, None, None, None][..], 1), (&[Some(4), Some(3), None, None], 4), (&[Some(7), Some(3)], 7)]
        {
            assert_eq!(Sizes::of(&[port(dims)], Some([6, 7])), Sizes { batch, image: Some([6, 7]) }, "{dims:?}");
        }
        assert_eq!(Sizes::of(&[], None), Sizes { batch: 1, image: None });
    }

    #[test]
    fn free_sizes_are_filled_and_fixed_ones_kept() {
        let at = |batch, image| Sizes { batch, image };
        for (name, dims, sizes, expected) in [
            ("nothing is free", &[Some(1), Some(3), Some(8), Some(9)][..], at(1, None), Ok(vec![1, 3, 8, 9])),
            ("the batch", &[None, Some(3), Some(8), Some(9)], at(5, None), Ok(vec![5, 3, 8, 9])),
            ("the image", &[None, Some(3), None, None], at(2, Some([6, 7])), Ok(vec![2, 3, 6, 7])),
            ("the image, channels last", &[None, None, None, Some(3)], at(2, Some([6, 7])), Ok(vec![2, 6, 7, 3])),
            ("an image says nothing of a vector", &[None, Some(4)], at(2, Some([6, 7])), Ok(vec![2, 4])),
            ("free and not given", &[None, Some(3), None, None], at(1, None), Err("leaves dimension 2 free")),
            ("another batch", &[Some(1), Some(3)], at(4, None), Err("has 1 in dimension 0, not 4")),
        ] {
            match (shape(&port(dims), sizes), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{name}"),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{name}: {error}"),
                (found, expected) => panic!("{name}: {found:?} instead of {expected:?}"),
            }
        }
    }

    #[test]
    fn noise_has_unit_variance_and_a_bound_on_its_size() {
        let sizes = Sizes { batch: 1, image: None };
        let made = inputs(&[port(&[None, Some(40_000)])], sizes, 40_000, 1).unwrap();
        let data = made[0].1.data();
        let mean = data.iter().sum::<f32>() / 40_000.0;
        let variance = data.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 40_000.0;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
        let error = inputs(&[port(&[None, Some(40_000)])], sizes, 39_999, 1).unwrap_err();
        assert_eq!(error.to_string(), "input `x` has 40000 elements, more than the 39999 allowed");
    }
}
