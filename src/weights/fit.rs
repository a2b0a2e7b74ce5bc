//! Holds what a file has against what a network needs.

use std::collections::{HashMap, HashSet};
use std::fmt;

use crate::ir::{Graph, Weight};
use crate::nearest::nearest;
use crate::weights::header::shown;

/// A tensor that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Sizes, outermost first.
    pub shape: Vec<u64>,
    /// Its element type, if weights cannot have that.
    pub unreadable: Option<String>,
}

/// Which tensor each parameter comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fit {
    /// The name a parameter's tensor was found under.
    pub found_as: HashMap<String, String>,
    /// Parameters of the head that were not found, or in another shape: they keep their initial values.
    pub initialised: Vec<String>,
    /// Tensors of the head, or of stages after the network's last, that are not used.
    pub unused: Vec<String>,
}

/// Everything in which a file and a network differ.
#[derive(Debug, Clone, Default, PartialEq, Eq, thiserror::Error)]
pub struct Misfit {
    /// Parameters that were not found.
    pub missing: Vec<Named>,
    /// Tensors that no parameter wants.
    pub unexpected: Vec<Named>,
    /// Parameters found in another shape.
    pub misshapen: Vec<Misshapen>,
    /// Parameters found with elements that are no numbers of floating point.
    pub unreadable: Vec<Unreadable>,
    /// Whether all of it is in the head, or in stages after the network's last.
    pub is_only_the_end: bool,
}

/// A name without a counterpart, and the nearest on the other side that has none either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The name.
    pub name: String,
    /// The nearest, if one is near.
    pub nearest: Option<String>,
}

/// A parameter found in another shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misshapen {
    /// The parameter.
    pub name: String,
    /// Its shape in the network.
    pub expected: Vec<u64>,
    /// The shape it was found in.
    pub found: Vec<u64>,
}

/// A parameter found with elements that weights cannot have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The parameter.
    pub name: String,
    /// What its elements are.
    pub element_type: String,
}

/// Most lines of each kind that a message has.
const MAX_LINES: usize = 20;

/// Most names among which the nearest is looked for: with what is misspelt beyond that, names are not the problem.
const MAX_COMPARED: usize = 2000;

/// Finds the tensor of every parameter of the graph. Every parameter needs one, and every tensor has to be needed; with
/// `partial`, that does not hold for the head, nor for tensors of stages after the network's last.
///
/// # Errors
/// Everything that does not fit.
pub fn fit(graph: &Graph, found: &[Found], partial: bool) -> Result<Fit, Misfit> {
    let parameters: Vec<&Weight> = graph.weights().flat_map(|(_, weight)| weight.leaves()).collect();
    let wanted: HashSet<&str> = parameters.iter().map(|weight| weight.name()).collect();
    let mut by_name: HashMap<String, &Found> = HashMap::new();
    let mut unexpected: Vec<&str> = Vec::new();
    for tensor in found.iter().filter(|tensor| !is_count(&tensor.name)) {
        let name = canonical(&tensor.name);
        if !wanted.contains(name.as_str()) || by_name.insert(name, tensor).is_some() {
            unexpected.push(&tensor.name);
        }
    }
    let mut fit = Fit::default();
    let mut misfit = Misfit::default();
    let mut missing: Vec<&str> = Vec::new();
    for weight in parameters {
        let name = weight.name();
        let may_differ = partial && is_head(name);
        let expected: Vec<u64> = weight.shape().iter().map(|&n| n.into()).collect();
        match by_name.get(name) {
            Some(tensor) if tensor.shape != expected && may_differ => {
                fit.initialised.push(name.to_owned());
                fit.unused.push(tensor.name.clone());
            }
            Some(tensor) if tensor.shape != expected => {
                let found = tensor.shape.clone();
                misfit.misshapen.push(Misshapen { name: name.to_owned(), expected, found });
            }
            Some(Found { unreadable: Some(element_type), .. }) => {
                let element_type = element_type.clone();
                misfit.unreadable.push(Unreadable { name: name.to_owned(), element_type });
            }
            Some(tensor) => drop(fit.found_as.insert(name.to_owned(), tensor.name.clone())),
            None if may_differ => fit.initialised.push(name.to_owned()),
            None => missing.push(name),
        }
    }
    let stages = wanted.iter().filter_map(|name| Some(stage_of(name)? + 1)).max();
    let after =
        |name: &str| stages.is_some_and(|stages| stage_of(&canonical(name)).is_some_and(|stage| stage >= stages));
    if partial {
        fit.unused.extend(unexpected.extract_if(.., |name| is_head(name) || after(name)).map(ToOwned::to_owned));
    }
    misfit.is_only_the_end = misfit.misshapen.iter().all(|misshapen| is_head(&misshapen.name))
        && misfit.unreadable.is_empty()
        && missing.iter().all(|name| is_head(name))
        && unexpected.iter().all(|name| is_head(name) || after(name));
    if missing.is_empty() && unexpected.is_empty() && misfit.misshapen.is_empty() && misfit.unreadable.is_empty() {
        return Ok(fit);
    }
    misfit.missing = with_nearest(&missing, &unexpected);
    misfit.unexpected = with_nearest(&unexpected, &missing);
    Err(misfit)
}

/// The name of the parameter that a name in a file means.
fn canonical(name: &str) -> String {
    match name.strip_prefix("stages_") {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => format!("stages.{rest}"),
        _ => name.to_owned(),
    }
}

/// Whether this is the number of training steps that BatchNorm keeps.
fn is_count(name: &str) -> bool {
    name == "num_batches_tracked" || name.ends_with(".num_batches_tracked")
}

fn is_head(name: &str) -> bool {
    name.starts_with("head.")
}

/// The stage that a parameter belongs to, from 0.
fn stage_of(name: &str) -> Option<usize> {
    let (stage, _) = name.strip_prefix("stages.")?.split_once('.')?;
    stage.parse().ok()
}

fn with_nearest(names: &[&str], others: &[&str]) -> Vec<Named> {
    let compared = &others[..others.len().min(MAX_COMPARED)];
    let nearest = |name: &str| nearest(name, compared.iter().copied()).map(ToOwned::to_owned);
    let of = |(i, name): (usize, &&str)| Named {
        name: (*name).to_owned(),
        // What is not shown needs no suggestion.
        nearest: (i < MAX_LINES).then(|| nearest(name)).flatten(),
    };
    names.iter().enumerate().map(of).collect()
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            (self.missing.len(), "missing"),
            (self.unexpected.len(), "unexpected"),
            (self.misshapen.len(), "misshapen"),
            (self.unreadable.len(), "unreadable"),
        ];
        let counts: Vec<String> =
            counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        write!(f, "the tensors are not those of the network: {}", counts.join(", "))?;
        let near = |named: &Named| {
            let nearest = named.nearest.as_ref().map(|nearest| format!("; nearest is `{}`", shown(nearest)));
            format!("`{}`{}", shown(&named.name), nearest.unwrap_or_default())
        };
        lines(f, "missing", &self.missing, near)?;
        lines(f, "unexpected", &self.unexpected, near)?;
        lines(f, "misshapen", &self.misshapen, |Misshapen { name, expected, found }| {
            format!("`{name}` is {}, the network's is {}", show_shape(found), show_shape(expected))
        })?;
        lines(f, "unreadable", &self.unreadable, |Unreadable { name, element_type }| {
            format!("`{name}` has elements of type {element_type}; f32, f16 and bf16 can be read")
        })
    }
}

fn lines<T>(f: &mut fmt::Formatter<'_>, what: &str, items: &[T], show: impl Fn(&T) -> String) -> fmt::Result {
    for item in items.iter().take(MAX_LINES) {
        write!(f, "\n{what:<10}  {}", show(item))?;
    }
    match items.len().saturating_sub(MAX_LINES) {
        0 => Ok(()),
        more => write!(f, "\n{what:<10}  … and {more} more"),
    }
}

fn show_shape(shape: &[u64]) -> String {
    // A shape of a stranger's file may have any number of dimensions.
    let sizes: Vec<String> = shape.iter().take(8).map(ToString::to_string).collect();
    format!("[{}{}]", sizes.join(","), if shape.len() > 8 { ",…" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv::Conv;
    use crate::ir::{GraphBuilder, Label};
    use crate::tensor::{Dim, TensorType};

    fn graph() -> Graph {
        let mut g = GraphBuilder::new("x");
        let x = g.input("image", TensorType::f32([1, 3, 8, 8].map(Dim::Fixed))).unwrap();
        let label = Label::new("stage1", "stages.0.blocks.0.layers.0");
        let x = g.conv(label.below("", "conv"), x, Conv::square(3), 4).unwrap();
        let x = g.batch_norm(label.below("norm", "bn"), x, 1e-5).unwrap();
        let x = g.flatten("flatten", x).unwrap();
        let x = g.linear(Label::new("head", "head.fc"), x, 10).unwrap();
        g.finish([("out", x)]).unwrap()
    }

    fn found() -> Vec<Found> {
        let of = |name: &str, shape: &[u64]| Found { name: name.to_owned(), shape: shape.to_vec(), unreadable: None };
        vec![
            of("stages.0.blocks.0.layers.0.conv.weight", &[4, 3, 3, 3]),
            of("stages_0.blocks.0.layers.0.bn.weight", &[4]),
            of("stages.0.blocks.0.layers.0.bn.bias", &[4]),
            of("stages.0.blocks.0.layers.0.bn.running_mean", &[4]),
            of("stages.0.blocks.0.layers.0.bn.running_var", &[4]),
            of("stages.0.blocks.0.layers.0.bn.num_batches_tracked", &[]),
            of("head.fc.weight", &[10, 256]),
            of("head.fc.bias", &[10]),
        ]
    }

    #[test]
    fn every_tensor_is_used_once() {
        let fit = fit(&graph(), &found(), false).unwrap();
        assert_eq!(fit.found_as.len(), 7);
        let name = "blocks.0.layers.0.bn.weight";
        assert_eq!(fit.found_as[&format!("stages.0.{name}")], format!("stages_0.{name}"));
        assert_eq!((fit.initialised.len(), fit.unused.len()), (0, 0));

        let mut twice = found();
        twice.push(Found { name: "stages.0.blocks.0.layers.0.bn.weight".to_owned(), ..twice[1].clone() });
        let misfit = super::fit(&graph(), &twice, true).unwrap_err();
        assert_eq!(misfit.unexpected[0].name, "stages.0.blocks.0.layers.0.bn.weight");
    }

    #[test]
    fn everything_that_differs_is_listed_together() {
        let mut found = found();
        found[0].name = "stages.0.blocks.0.layers.0.conv.wieght".to_owned();
        found[2].shape = vec![4, 1];
        found[4].unreadable = Some("f64".to_owned());
        found[6].shape = vec![12, 256];
        found[7].name = "classifier\n.bias".to_owned();
        let misfit = fit(&graph(), &found, false).unwrap_err();
        assert!(!misfit.is_only_the_end);
        insta::assert_snapshot!(misfit, @r"
        the tensors are not those of the network: 2 missing, 2 unexpected, 2 misshapen, 1 unreadable
        missing     `stages.0.blocks.0.layers.0.conv.weight`; nearest is `stages.0.blocks.0.layers.0.conv.wieght`
        missing     `head.fc.bias`
        unexpected  `stages.0.blocks.0.layers.0.conv.wieght`; nearest is `stages.0.blocks.0.layers.0.conv.weight`
        unexpected  `classifier\n.bias`
        misshapen   `stages.0.blocks.0.layers.0.bn.bias` is [4,1], the network's is [4]
        misshapen   `head.fc.weight` is [12,256], the network's is [10,256]
        unreadable  `stages.0.blocks.0.layers.0.bn.running_var` has elements of type f64; f32, f16 and bf16 can be read
        ");
        let nothing = fit(&graph(), &[], true).unwrap_err();
        assert_eq!(nothing.missing.len(), 5);
    }

    #[test]
    fn a_head_may_differ_if_asked_for() {
        let mut other = found();
        other[6].shape = vec![12, 256];
        other.pop();
        other.push(Found { name: "head.last_conv.0.weight".to_owned(), ..other[0].clone() });
        assert!(fit(&graph(), &other, false).unwrap_err().is_only_the_end);
        let fit = fit(&graph(), &other, true).unwrap();
        assert_eq!(fit.initialised, ["head.fc.weight", "head.fc.bias"]);
        assert_eq!(fit.unused, ["head.fc.weight", "head.last_conv.0.weight"]);
        assert_eq!(fit.found_as.len(), 5);
    }

    #[test]
    fn stages_after_the_last_may_be_left_over_if_asked_for() {
        let mut other = found();
        let later = ["stages.1.downsample.conv.weight", "stages_12.blocks.0.x"];
        other.extend(later.map(|name| Found { name: name.to_owned(), ..other[0].clone() }));
        let misfit = fit(&graph(), &other, false).unwrap_err();
        assert_eq!((misfit.unexpected.len(), misfit.is_only_the_end), (2, true));
        assert_eq!(fit(&graph(), &other, true).unwrap().unused, later);
        other.push(Found { name: "stages.0.blocks.7.x".to_owned(), ..other[0].clone() });
        let misfit = fit(&graph(), &other, true).unwrap_err();
        assert_eq!((misfit.unexpected[0].name.as_str(), misfit.is_only_the_end), ("stages.0.blocks.7.x", false));
    }
}
