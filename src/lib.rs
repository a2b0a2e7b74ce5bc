//! The backbone compiler: measures how densely a device computes convolutions, picks the densest, generates a backbone
//! network around it, and writes that network as an ONNX file which is proven to load and run.
//!
//! The method is that of patent CN114897147B, whose published results are PP-HGNet and PP-HGNetV2: operation counts say
//! little about latency on a device, so measure how many operations each kind of convolution gets done per second
//! *there*, build the network out of the densest, and spend the time saved on more arithmetic.
//!
//! # The pipeline
//!
//! Each step is a function from values to values, which can be run alone, and what it hands on can be saved and read.
//!
//! | Step | Module | From | To |
//! |---|---|---|---|
//! | take the census | [`census`] | base models | [`census::Census`] |
//! | measure | [`profile`] | a device and a list of problems | [`profile::Profile`] |
//! | choose | [`select`] | a profile and a policy | [`select::Selection`] |
//! | describe | [`backbone`] | YAML, or a preset | [`backbone::Spec`] |
//! | search | [`search`] | a profile and a budget | [`backbone::Spec`] |
//! | generate | [`backbone`] | a spec with its first conv | [`ir::Graph`] |
//! | transform | [`pass`] | a graph | a graph that computes the same |
//! | train | [`torch`] | a spec | a PyTorch module |
//! | fit | [`weights`] | a file of trained weights, a graph | a source of weights |
//! | lower | [`onnx`] | a graph and a source of weights | bytes |
//! | check | [`onnx`] | bytes from anywhere | a model whose structure holds |
//! | prove | `verify` | a model file | what running it has shown |
//! | lay out | [`report`] | what a search has found | a page of HTML |
//! | run | `runtime` | a model and tensors | tensors, timings, where each node ran |
//! | show | [`report`] | a profile | a picture |
//!
//! ```
//! use bbc::backbone::{self, Batch, Spec};
//! use bbc::ir::Seeded;
//! use bbc::{onnx, pass, profile, select};
//!
//! # let text = include_str!("../schema/profile.example.yaml");
//! let profile = profile::Profile::read(text)?;
//! let selection = select::select(&profile, select::Policy::Densest, select::Rules::default())?;
//! let spec = Spec { first_conv: Some(selection.verdict.winner), ..backbone::preset("hgnetv2-b0")? };
//! let backbone = backbone::generate(&spec, Batch::Dynamic)?;
//! let graph = pass::run(backbone.graph, &pass::DEPLOY)?;
//! let model = onnx::lower(&graph, &onnx::Options::default());
//! let bytes = model.to_bytes(&Seeded(0));
//! onnx::check(&onnx::read(bytes.into())?)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Words
//!
//! - **conv**: a convolution's attributes ([`conv::Conv`]); **problem**: a conv on a concrete input
//!   ([`conv::ConvProblem`]); **candidate**: a form of conv a backbone can be built from ([`conv::Candidate`]).
//! - **shader**: one WGSL program that computes some problems; **instrument**: what times a problem, `shader` or
//!   `provider` (an execution provider of ONNX Runtime).
//! - **density**: operations per second really reached; one multiply-add is two operations, always. **intensity**:
//!   operations per byte that has to be moved, a property of the problem alone.
//!
//! # Promises
//!
//! A graph that exists is valid ([`ir`]). The same spec, profile and seed give the same bytes on any machine. A shader is
//! checked against [`reference`](mod@reference) before it is timed. A measurement keeps its raw samples. Nothing falls
//! back to another device in silence. The library neither prints nor exits, and no input makes it panic.

pub mod backbone;
pub mod census;
pub mod conv;
pub mod image;
pub mod ir;
mod nearest;
#[cfg(feature = "run")]
pub mod npz;
pub mod onnx;
pub mod pass;
#[cfg(feature = "run")]
pub mod precision;
pub mod profile;
mod random;
pub mod reference;
pub mod report;
#[cfg(feature = "run")]
pub mod runtime;
pub mod search;
pub mod select;
pub mod tensor;
pub mod torch;
pub mod units;
#[cfg(feature = "run")]
pub mod verify;
pub mod weights;
pub mod yaml;
